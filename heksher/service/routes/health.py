"""Health: whether the service can answer."""

from __future__ import annotations

from heksher.service import api_types as types
from heksher.service.http import Call
from heksher.service.storage import Storage


class Health:
    """Whether the service can answer."""

    def __init__(self, storage: Storage, version: str) -> None:
        self._storage = storage
        self._version = version

    def get(self, _call: Call) -> types.Health | types.Unhealthy:
        """The version, with 500 when the database does not answer."""
        answer = types.Health if self._storage.answers() else types.Unhealthy
        return answer(self._version)
