"""Create an index on a table that is in use, from within a migration."""

from collections.abc import Sequence
from functools import partial

import sqlalchemy as sa
from alembic import op

_VALIDITY = sa.text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")


def create_index(
    name: str, table: str, columns: Sequence[str], *, where: str | None = None, unique: bool = False
) -> None:
    """Create an index; on PostgreSQL concurrently, so that workers keep writing.

    Call it as the first statement of a migration: what was executed before is committed. A migration that was
    interrupted is repeated; an index that it left incomplete is replaced.
    """
    condition = None if where is None else sa.text(where)
    create = partial(
        op.create_index, name, table, list(columns), unique=unique, postgresql_where=condition, sqlite_where=condition
    )
    config = op.get_context().config
    if config is None or not config.attributes["builds_concurrently"]:
        create()
        return
    with op.get_context().autocommit_block():
        is_valid = op.get_bind().scalar(_VALIDITY, {"name": name})
        if is_valid:
            return
        op.drop_index(name, table_name=table, if_exists=True, postgresql_concurrently=True)
        create(postgresql_concurrently=True)
