"""Triggers of the table `decisions`: no row is changed or deleted, but the free text of a reason can be erased."""

import sqlalchemy as sa
from alembic import op

_TRIGGER = "decisions_refuses_UPDATE"
_REFUSE = "BEGIN SELECT RAISE(ABORT, 'decisions are append-only'); END"


def allow_only_erased_reasons() -> None:
    """Refuse each update of a decision except one that sets `reason` to an empty text and changes nothing else.

    Call it again in each migration that adds a column to `decisions`: the trigger of SQLite names the columns.
    """
    if _drop_trigger():
        op.execute(
            f"CREATE TRIGGER {_TRIGGER} BEFORE UPDATE ON decisions FOR EACH ROW"
            " WHEN (NOT (NEW.reason = '' AND to_jsonb(NEW) - 'reason' = to_jsonb(OLD) - 'reason'))"
            " EXECUTE FUNCTION decisions_refuse()"
        )
        return
    names = [column["name"] for column in sa.inspect(op.get_bind()).get_columns("decisions")]
    is_same = " AND ".join(f"NEW.{name} IS OLD.{name}" for name in names if name != "reason")
    op.execute(
        f"CREATE TRIGGER {_TRIGGER} BEFORE UPDATE ON decisions WHEN NOT (NEW.reason = '' AND {is_same}) {_REFUSE}"
    )


def refuse_all_updates() -> None:
    """Refuse each update of a decision."""
    if _drop_trigger():
        op.execute(
            f"CREATE TRIGGER {_TRIGGER} BEFORE UPDATE ON decisions"
            " FOR EACH STATEMENT EXECUTE FUNCTION decisions_refuse()"
        )
    else:
        op.execute(f"CREATE TRIGGER {_TRIGGER} BEFORE UPDATE ON decisions {_REFUSE}")


def _drop_trigger() -> bool:
    """Drop the present trigger; return whether the database is PostgreSQL."""
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    op.execute(f"DROP TRIGGER {_TRIGGER}{' ON decisions' if is_postgresql else ''}")
    return is_postgresql
