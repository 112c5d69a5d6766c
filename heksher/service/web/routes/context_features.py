"""Context features: their ordered list, and what changes it."""

from __future__ import annotations

from heksher.service.domain import limits
from heksher.service.domain import messages as types
from heksher.service.domain.feature_order import moved
from heksher.service.domain.refusals import Refusal
from heksher.service.storage import Storage
from heksher.service.web import bodies
from heksher.service.web.http import Call


class ContextFeatures:
    """The ordered list of context features."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def list(self, _call: Call) -> types.ContextFeatures:
        """All names, in order."""
        with self._storage.reading() as reader:
            return types.ContextFeatures(reader.features())

    def get(self, call: Call) -> types.FeatureIndex:
        """The index of one."""
        name = call.name()
        with self._storage.reading() as reader:
            features = reader.features()
        if name not in features:
            raise Refusal(404)
        return types.FeatureIndex(features.index(name))

    def add(self, call: Call) -> None:
        """A new one, at the end."""
        name = bodies.feature_name(call.fields(), "context_feature")
        limits.check_feature(name)
        with self._storage.writing() as writer:
            features = writer.features()
            if name in features:
                raise Refusal(409, "context feature already exists")
            writer.put_features([*features, name])

    def delete(self, call: Call) -> None:
        """One goes, unless a setting is configurable by it; later ones move up."""
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
        """One goes to another place in the order."""
        name = call.name()
        fields = call.fields()
        anchor, after = bodies.place(fields)
        with self._storage.writing() as writer:
            features = writer.features()
            if name not in features or anchor not in features:
                raise Refusal(404)
            writer.put_features(moved(features, name, anchor, after=after))
