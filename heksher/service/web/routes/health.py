"""Route of the health check."""

from __future__ import annotations

from msgspec import UNSET

from heksher.service.domain import messages
from heksher.service.storage import Storage
from heksher.service.web.http import Call


class HealthRoute:
    """Handlers for the health check."""

    def __init__(self, storage: Storage, version: str) -> None:
        self._storage = storage
        self._version = version

    def get(self, _call: Call) -> messages.Health | messages.Unhealthy:
        """Return the version, with 500 if the database does not answer.

        A read-only database is reported as healthy: queries can still be answered.
        """
        if not self._storage.answers():
            return messages.Unhealthy(self._version)
        return messages.Health(
            self._version, last_write="failed" if self._storage.last_write_failed() else UNSET
        )

    def unhealthy(self, _call: Call) -> messages.Unhealthy:
        """Return the version with 500, because the database did not answer in time."""
        return messages.Unhealthy(self._version)
