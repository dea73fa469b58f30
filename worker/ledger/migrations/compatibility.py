"""Set the oldest program revision that the ledger supports, from within a migration."""

import sqlalchemy as sa
from alembic import op

_compatibility = sa.table("compatibility", sa.column("oldest_level"))


def set_minimum_revision(revision: str) -> None:
    """Refuse programs older than `revision` from now on.

    Call it in a migration that contracts the schema, which means that it removes, renames or narrows something that
    programs of the previous revision use. A migration that only expands the schema must not call it.
    """
    op.execute(sa.delete(_compatibility))
    op.execute(sa.insert(_compatibility).values(oldest_level=revision))
