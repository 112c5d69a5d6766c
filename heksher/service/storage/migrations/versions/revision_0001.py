"""count changes in a table heksher_revision, by triggers (PostgreSQL)

The module ``heksher.service.storage.revision`` says why it is done in this way. SQLite needs nothing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

# There is no downgrade. To remove the additions, drop the function with its triggers (CASCADE) and the
# tables.
revision = "0001"
down_revision = None

_TABLES = (
    "alembic_version",
    "configurable",
    "conditions",
    "context_features",
    "rule_metadata",
    "rules",
    "setting_aliases",
    "setting_metadata",
    "settings",
)

# SECURITY DEFINER and a fixed search path, because users that write to the original's tables may have
# no rights on heksher_revision, and any search path of their own. Above READ COMMITTED, updating a row
# that another transaction has changed would be a serialization error, and SKIP LOCKED does not skip
# it. Such transactions insert a row of their own.
_FUNCTION = """
CREATE FUNCTION {schema}.heksher_count_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    free integer;
BEGIN
    IF current_setting('transaction_isolation') = 'read committed' THEN
        SELECT slot INTO free FROM {schema}.heksher_revision LIMIT 1 FOR UPDATE SKIP LOCKED;
    END IF;
    IF free IS NULL THEN
        INSERT INTO {schema}.heksher_revision (changes) VALUES (1);
    ELSE
        UPDATE {schema}.heksher_revision SET changes = changes + 1 WHERE slot = free;
    END IF;
    RETURN NULL;
END
$$
"""


def upgrade() -> None:
    """Add the table, the function and the triggers."""
    if op.get_context().dialect.name != "postgresql":
        return
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    op.execute(
        f"CREATE TABLE {schema}.heksher_revision ("
        "slot integer GENERATED ALWAYS AS IDENTITY CONSTRAINT heksher_revision_pkey PRIMARY KEY, "
        "changes bigint NOT NULL)"
        " WITH (fillfactor = 10)"  # leaves room for new versions of a row on the same page
    )
    op.execute(_FUNCTION.format(schema=schema))
    for table in _TABLES:
        op.execute(
            f"CREATE TRIGGER heksher_count_change "
            f"AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {schema}.{table} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {schema}.heksher_count_change()"
        )
