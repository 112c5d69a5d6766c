"""What the service adds to the original's database, step by step, as migrations of alembic.

The steps are in ``versions``; how far a database is stands in its table ``heksher_version``, beside
the original's own marker. Imported only when there is something to do.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

_FOLDER = Path(__file__).parent


def pending(current: str | None) -> list[str] | None:
    """What the steps after *current* do, in their order; None if there is no step *current*."""
    steps = list(ScriptDirectory.from_config(_config()).walk_revisions())
    revisions = [step.revision for step in steps]
    if current is not None and current not in revisions:
        return None
    done = len(revisions) if current is None else revisions.index(current)
    return [step.doc.rstrip(".") for step in reversed(steps[:done])]


def upgrade(connection: sa.Connection) -> None:
    """Take all steps that are left, in the transaction that *connection* is in."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _config() -> Config:
    config = Config()
    # A percent sign would begin an interpolation.
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    return config
