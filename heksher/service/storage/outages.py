"""What the log says of something that fails for a while: once that it begins, and once that it is over."""

from __future__ import annotations

import logging
import threading

logger = logging.getLogger("heksher.service")


class Outage:
    """One that lasts or not.

    Args:
        level: of the line that says that it begins.
        begun: that line, with ``%s`` for the reason.
        over: the line that says that it is over.
    """

    def __init__(self, level: int, begun: str, over: str) -> None:
        self._level = level
        self._begun = begun
        self._over = over
        self._guard = threading.Lock()
        self._lasts = False

    @property
    def lasts(self) -> bool:
        """Whether it began and is not over."""
        return self._lasts

    def begin(self, reason: object) -> None:
        """It failed once more."""
        with self._guard:
            is_news, self._lasts = not self._lasts, True
        if is_news:
            logger.log(self._level, self._begun, reason)

    def end(self) -> None:
        """It went well once more."""
        if not self._lasts:  # nearly always, and then nobody waits
            return
        with self._guard:
            is_news, self._lasts = self._lasts, False
        if is_news:
            logger.info(self._over)
