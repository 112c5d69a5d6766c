"""The databases that tests of the service run on: SQLite in memory, PostgreSQL where there is one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heksher.service import create_app

if TYPE_CHECKING:
    from starlette.applications import Starlette


@dataclass(frozen=True)
class Database:
    """One of them.

    Attributes:
        name: for messages.
        fresh_app: makes an application on an empty database with these context features. The
            one before must have been shut down.
    """

    name: str
    fresh_app: Callable[[Sequence[str]], Starlette]


SQLITE = Database("SQLite", lambda features: create_app(features=features))
