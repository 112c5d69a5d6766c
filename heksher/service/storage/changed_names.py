"""The names of the settings that the last commits changed, as far as this process knows them.

Pure: knows neither databases nor what a revision is. Safe for threads.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Set as AbstractSet

# How many commits are remembered.
_MAX_COMMITS = 1_000


class ChangedNames:
    """The names that commits changed, from one revision to the next, without a gap.

    What is before a gap is dropped, since the changes in the gap are unknown.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        # By the revision before each commit.
        self._commits = deque[tuple[str, AbstractSet[str]]](maxlen=_MAX_COMMITS)
        self._latest: str | None = None

    def add(self, before: str | None, after: str | None, changed: AbstractSet[str] | None) -> None:
        """Add a commit.

        Args:
            before: the revision before it. None: unknown.
            after: the revision after it and before any other commit. None: unknown.
            changed: the names that it changed. None: anything may have changed.
        """
        with self._guard:
            if before is None or before != self._latest or changed is None:
                self._commits.clear()
            if before is not None and changed is not None:
                self._commits.append((before, changed))
            self._latest = after

    def knows(self, revision: str) -> bool:
        """Whether *revision* is one before or after a commit."""
        with self._guard:
            return revision == self._latest or any(revision == each[0] for each in self._commits)

    def between(self, old: str, new: str) -> set[str] | None:
        """Return the names that changed from *old* to *new*. None: anything may have changed."""
        if old == new:
            return set()
        found = set[str]()
        with self._guard:
            is_between = new == self._latest
            for before, changed in reversed(self._commits):
                if is_between:
                    found |= changed
                    if before == old:
                        return found
                is_between = is_between or before == new
        return None
