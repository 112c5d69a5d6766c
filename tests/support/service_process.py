"""``heksher serve`` as a child process, for tests of that command, which start it in different ways.

Tests of clients use `heksher.testing.service` as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from heksher.testing._hosts import ProcessHost
from heksher.testing.service import DEADLINE, LiveService

__all__ = ["DEADLINE", "ServiceProcess"]


class ServiceProcess(LiveService):
    """A service that gets its options when it is started. As a context manager, it ends with the block.

    ::

        with ServiceProcess() as service:
            service.start(features=["user"], database=path)
    """

    def __init__(self) -> None:
        super().__init__(proxy=False)

    def __enter__(self) -> Self:
        return self

    def start(
        self,
        features: Sequence[str] = ("environment", "user", "theme"),
        database: str | Path = "memory",
        api_token: str | None = None,
        port: int = 0,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> str:
        """Start it, wait until it accepts connections, and return its URL, which is also ``self.url``."""
        assert not self.is_running, "it runs already"
        super().__init__(
            features,
            database=database,
            api_token=api_token,
            proxy=False,
            port=port,
            options=options,
        )
        assert isinstance(self._host, ProcessHost)
        self._host.environment.update(environment or {})
        return super().start()

    def start_again(self) -> str:
        """Start it again after it ended, on the same port and database. A database in memory is empty."""
        return super().start()
