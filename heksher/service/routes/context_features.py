"""Context features: their ordered list, and what changes it."""

from __future__ import annotations

from starlette.responses import Response

from heksher.service import bodies, limits
from heksher.service.errors import Refusal
from heksher.service.feature_order import moved
from heksher.service.http import Call, json_response, no_content
from heksher.service.storage import Storage


class ContextFeatures:
    """The ordered list of context features."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def list(self, _call: Call) -> Response:
        """All names, in order."""
        with self._storage.reading() as reader:
            return json_response({"context_features": reader.features()})

    def get(self, call: Call) -> Response:
        """The index of one."""
        name = call.name()
        with self._storage.reading() as reader:
            features = reader.features()
        if name not in features:
            raise Refusal(404)
        return json_response({"index": features.index(name)})

    def add(self, call: Call) -> Response:
        """A new one, at the end."""
        name = bodies.feature_name(call.fields(), "context_feature")
        limits.check_feature(name)
        with self._storage.writing() as writer:
            features = writer.features()
            if name in features:
                raise Refusal(409, "context feature already exists")
            writer.put_features([*features, name])
        return no_content()

    def delete(self, call: Call) -> Response:
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
        return no_content()

    def move(self, call: Call) -> Response:
        """One goes to another place in the order."""
        name = call.name()
        fields = call.fields()
        anchor, after = bodies.place(fields)
        with self._storage.writing() as writer:
            features = writer.features()
            if name not in features or anchor not in features:
                raise Refusal(404)
            writer.put_features(moved(features, name, anchor, after=after))
        return no_content()
