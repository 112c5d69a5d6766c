"""Health: whether the service can answer."""

from __future__ import annotations

from starlette.responses import Response

from heksher.service.http import Call, json_response
from heksher.service.storage import Storage


class Health:
    """Whether the service can answer."""

    def __init__(self, storage: Storage, version: str) -> None:
        self._storage = storage
        self._version = version

    def get(self, _call: Call) -> Response:
        """The version, with 500 when the database does not answer."""
        return json_response({"version": self._version}, 200 if self._storage.answers() else 500)
