"""Routes of context features: the ordered list and its changes."""

from __future__ import annotations

from starlette.requests import Request

from heksher.service.domain import limits, messages
from heksher.service.domain.feature_order import moved
from heksher.service.domain.refusals import Refusal
from heksher.service.storage import Storage
from heksher.service.web import bodies
from heksher.service.web.answer_cache import CachedAnswer
from heksher.service.web.http import Call, Encoded, MaybeSlow
from heksher.service.web.routes.answers import Answers, Listing, encoded, untagged

_ALL = Listing("context features")


class ContextFeatureRoutes:
    """Handlers for the ordered list of context features."""

    def __init__(self, storage: Storage, answers: Answers) -> None:
        self._storage = storage
        self._answers = answers

    async def list(self, _request: Request) -> MaybeSlow[Encoded[messages.ContextFeatures]]:
        """List all names, in order."""
        return await self._answers.get(_ALL, self._all, untagged)

    def _all(self, *_: object) -> CachedAnswer:
        with self._storage.reading() as reader:
            return encoded(messages.ContextFeatures(reader.features()))

    def get(self, call: Call) -> messages.FeatureIndex:
        """Return the index of a feature."""
        name = call.name()
        with self._storage.reading() as reader:
            features = reader.features()
        if name not in features:
            raise Refusal(404)
        return messages.FeatureIndex(features.index(name))

    def add(self, call: Call) -> None:
        """Add a feature at the end."""
        name = bodies.feature_name(call.fields(), "context_feature")
        limits.check_feature(name)
        with self._storage.writing() as writer:
            features = writer.features()
            if name in features:
                raise Refusal(409, "context feature already exists")
            writer.put_features([*features, name])

    def delete(self, call: Call) -> None:
        """Delete a feature, unless a setting is configurable by it; later features move up."""
        name = call.name()
        with self._storage.writing() as writer:
            features = writer.features()
            if name not in features:
                raise Refusal(404)
            if writer.users_of_feature(name):
                raise Refusal(
                    409,
                    "context feature can't be deleted, there is at least one setting "
                    "configured by it",
                )
            writer.put_features([feature for feature in features if feature != name])

    def move(self, call: Call) -> None:
        """Move a feature to another position."""
        name = call.name()
        fields = call.fields()
        anchor, after = bodies.place(fields)
        with self._storage.writing() as writer:
            features = writer.features()
            if name not in features or anchor not in features:
                raise Refusal(404)
            writer.put_features(moved(features, name, anchor, after=after))
