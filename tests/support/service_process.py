"""``heksher serve`` as a child process, for the tests of that command: started now this way, now that.

Tests of whatever talks to a service use `heksher.testing.service` as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from heksher.testing.service import DEADLINE, LiveService

__all__ = ["DEADLINE", "ServiceProcess"]


class ServiceProcess(LiveService):
    """A service that is told how to be when it is started; as a context manager it ends with the block.

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
    ) -> str:
        """Start it and wait until it accepts connections; its URL, also as ``self.url``."""
        assert not self.is_running, "it runs already"
        super().__init__(
            features,
            database=database,
            api_token=api_token,
            proxy=False,
            port=port,
            options=options,
        )
        return super().start()

    def start_again(self) -> str:
        """Start it after it ended, on the same port and database. One in memory is empty then."""
        return super().start()
