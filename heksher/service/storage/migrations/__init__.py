"""Additions to the original's database, as alembic migrations.

The migrations are in ``versions``. The table ``heksher_version`` has the revision of a database, next
to the original's own marker. Imports alembic, so this package is imported only if it is needed.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

_FOLDER = Path(__file__).parent


def pending(current: str | None) -> list[str] | None:
    """Describe the migrations after *current*, in order; None if *current* is unknown."""
    steps = list(ScriptDirectory.from_config(_config()).walk_revisions())
    revisions = [step.revision for step in steps]
    if current is not None and current not in revisions:
        return None
    done = len(revisions) if current is None else revisions.index(current)
    return [step.doc.rstrip(".") for step in reversed(steps[:done])]


def upgrade(connection: sa.Connection) -> None:
    """Run all pending migrations in the current transaction of *connection*."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _config() -> Config:
    config = Config()
    # Percent signs would start an interpolation.
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    return config
