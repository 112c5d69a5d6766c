"""Log outages without flooding the log: one line when an outage begins, one when it ends.

Knows nothing about databases.
"""

from __future__ import annotations

import logging
import threading

logger: logging.Logger = logging.getLogger("heksher.service")


class Outage:
    """An outage that may be ongoing or not.

    Args:
        level: level of the line that is logged when it begins.
        begun: this line, with ``%s`` for the reason.
        over: the line that is logged, at INFO, when it ends.
    """

    def __init__(self, level: int, begun: str, over: str) -> None:
        self._level = level
        self._begun = begun
        self._over = over
        self._guard = threading.Lock()
        self._is_ongoing = False

    @property
    def is_ongoing(self) -> bool:
        """Whether the outage has begun and not ended."""
        return self._is_ongoing

    def begin(self, reason: object) -> None:
        """Note a failure."""
        with self._guard:
            is_news, self._is_ongoing = not self._is_ongoing, True
        if is_news:
            logger.log(self._level, self._begun, reason)

    def end(self) -> None:
        """Note a success."""
        if not self._is_ongoing:  # nearly always, and then no lock is needed
            return
        with self._guard:
            is_news, self._is_ongoing = self._is_ongoing, False
        if is_news:
            logger.info(self._over)
