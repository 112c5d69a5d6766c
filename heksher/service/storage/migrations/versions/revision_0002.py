"""note the names of changed settings in a table heksher_changes, by triggers (PostgreSQL)

The module ``heksher.service.storage.revision`` says why it is done in this way. SQLite needs nothing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

# There is no downgrade; see the first migration.
revision = "0002"
down_revision = "0001"

# For each table, which column names the setting that a change concerns. None: it concerns everything.
# The names of settings that were deleted or renamed, or have other aliases, are not enough to update an
# answer, so that concerns everything as well.
_TABLES = {
    "alembic_version": None,
    "configurable": "setting",
    "conditions": "rule",
    "context_features": None,
    "rule_metadata": "rule",
    "rules": "setting",
    "setting_aliases": None,
    "setting_metadata": "setting",
    "settings": "name",
}

# How a slot is found, and why the function has these options, is as in the first migration.
#
# A transaction notes a name once: others see only what it commits. Its own variable has the names that
# it noted, as a JSON array, with null for everything. A rollback to a savepoint restores the variable.
#
# A deleted condition's rule that is not found was deleted by the same transaction, which noted it then.
# If a new condition's rule is not found, the transaction has a snapshot from before the rule.
_FUNCTION = """
CREATE OR REPLACE FUNCTION {schema}.heksher_count_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    noted jsonb := coalesce(nullif(current_setting('heksher.noted', true), ''), '[]');
    names text[] := ARRAY[NULL];
    changed text;
    free integer;
    number bigint;
BEGIN
    IF noted @> '[null]' THEN
        RETURN NULL;
    END IF;
    IF TG_NARGS = 1 THEN
        IF TG_OP = 'INSERT' THEN
            names := ARRAY(SELECT DISTINCT to_jsonb(a) ->> TG_ARGV[0] FROM added AS a);
        ELSIF TG_OP = 'DELETE' THEN
            names := ARRAY(SELECT DISTINCT to_jsonb(r) ->> TG_ARGV[0] FROM removed AS r);
        ELSE
            names := ARRAY(
                SELECT to_jsonb(a) ->> TG_ARGV[0] FROM added AS a
                UNION SELECT to_jsonb(r) ->> TG_ARGV[0] FROM removed AS r
            );
        END IF;
        IF TG_ARGV[0] = 'rule' THEN
            names := ARRAY(
                SELECT DISTINCT setting
                FROM unnest(names::integer[]) AS rule LEFT JOIN {schema}.rules ON id = rule
            );
            IF TG_OP = 'DELETE' THEN
                names := array_remove(names, NULL);
            END IF;
        ELSIF TG_ARGV[0] = 'name' THEN
            IF
                cardinality(names) <> (SELECT count(*) FROM added)
                OR EXISTS (SELECT FROM {schema}.setting_aliases WHERE alias = ANY (names))
            THEN
                names := ARRAY[NULL];
            END IF;
        END IF;
    END IF;
    FOREACH changed IN ARRAY names LOOP
        CONTINUE WHEN noted @> to_jsonb(ARRAY[changed]);
        IF jsonb_array_length(noted) = {most} THEN
            changed := NULL;
        END IF;
        noted := noted || to_jsonb(ARRAY[changed]);
        free := NULL;
        IF current_setting('transaction_isolation') = 'read committed' THEN
            SELECT slot INTO free FROM {schema}.heksher_revision LIMIT 1 FOR UPDATE SKIP LOCKED;
        END IF;
        IF free IS NULL THEN
            INSERT INTO {schema}.heksher_revision (changes) VALUES (1)
            RETURNING slot, changes INTO free, number;
        ELSE
            UPDATE {schema}.heksher_revision SET changes = changes + 1 WHERE slot = free
            RETURNING changes INTO number;
        END IF;
        INSERT INTO {schema}.heksher_changes (slot, place, change, name)
        VALUES (free, number % {kept}, number, changed)
        ON CONFLICT (slot, place) DO UPDATE SET change = EXCLUDED.change, name = EXCLUDED.name;
        EXIT WHEN changed IS NULL;
    END LOOP;
    PERFORM set_config('heksher.noted', noted::text, true);
    RETURN NULL;
END
$$
"""

# How many changes are kept for each slot, and how many names a transaction notes before it notes that
# everything has changed.
_KEPT = 1_000
_MOST = 20


def upgrade() -> None:
    """Add the table, and replace the function and the triggers."""
    if op.get_context().dialect.name != "postgresql":
        return
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    op.execute(
        f"CREATE TABLE {schema}.heksher_changes ("
        "slot integer NOT NULL, "
        "place integer NOT NULL, "
        "change bigint NOT NULL, "
        "name text, "  # null: everything
        "CONSTRAINT heksher_changes_pkey PRIMARY KEY (slot, place))"
    )
    op.execute(_FUNCTION.format(schema=schema, kept=_KEPT, most=_MOST))
    for table, column in _TABLES.items():
        op.execute(f"DROP TRIGGER heksher_count_change ON {schema}.{table}")
        everything = ["INSERT", "UPDATE", "DELETE", "TRUNCATE"]
        if column is not None:
            everything = ["TRUNCATE"] if column != "name" else ["DELETE", "TRUNCATE"]
            for event, rows in {
                "INSERT": "NEW TABLE AS added",
                "UPDATE": "OLD TABLE AS removed NEW TABLE AS added",
                "DELETE": "OLD TABLE AS removed",
            }.items():
                if event not in everything:
                    op.execute(
                        f"CREATE TRIGGER heksher_count_{event.lower()} AFTER {event} "
                        f"ON {schema}.{table} REFERENCING {rows} FOR EACH STATEMENT "
                        f"EXECUTE FUNCTION {schema}.heksher_count_change('{column}')"
                    )
        op.execute(
            f"CREATE TRIGGER heksher_count_change AFTER {' OR '.join(everything)} "
            f"ON {schema}.{table} FOR EACH STATEMENT "
            f"EXECUTE FUNCTION {schema}.heksher_count_change()"
        )
