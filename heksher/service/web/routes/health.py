"""Health: whether the service can answer."""

from __future__ import annotations

from msgspec import UNSET

from heksher.service.domain import messages as types
from heksher.service.storage import Storage
from heksher.service.web.http import Call


class Health:
    """Whether the service can answer."""

    def __init__(self, storage: Storage, version: str) -> None:
        self._storage = storage
        self._version = version

    def get(self, _call: Call) -> types.Health | types.Unhealthy:
        """The version, with 500 when the database does not answer.

        A database that takes no writes is no reason to send queries elsewhere.
        """
        if not self._storage.answers():
            return types.Unhealthy(self._version)
        return types.Health(
            self._version, last_write="failed" if self._storage.last_write_failed() else UNSET
        )

    def unhealthy(self, _call: Call) -> types.Unhealthy:
        """The version, with 500: the database says nothing at all."""
        return types.Unhealthy(self._version)
