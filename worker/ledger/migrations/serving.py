"""Which programs a ledger serves: the one word of a migration to those that are older than it."""

import sqlalchemy as sa
from alembic import op

_compatibility = sa.table("compatibility", sa.column("oldest_level"))


def serve_from(level: str) -> None:
    """From now on the ledger serves programs of this level and later ones only.

    For a migration that contracts: one that takes away, renames or narrows what programs of the level before use. One
    that only expands leaves it out, and older programs go on.
    """
    op.execute(sa.delete(_compatibility))
    op.execute(sa.insert(_compatibility).values(oldest_level=level))
