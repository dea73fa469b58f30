"""Insert rows that are new and pass over those that are there, on SQLite and PostgreSQL."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Connection, String, Table, cast, column, func, literal, select
from sqlalchemy.dialects import postgresql, sqlite

Rows = Sequence[Mapping[str, Any]]


def insert_or_ignore(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that leaves a row alone whose key is taken."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()


def bulk_insert_or_ignore(connection: Connection, key: Column[str], rows: Rows, **same: object) -> set[str]:
    """Insert the rows, all with the same columns, whose keys are not taken in the table of `key`; the keys of those.

    same: columns that have one value in all rows. On PostgreSQL all rows are one JSON parameter: with one for each
    value, most of the time goes into the statement's text.
    """
    if not rows:
        return set()
    table = key.table
    assert isinstance(table, Table)  # noqa: S101 - a column of the schema's
    if connection.dialect.name == "sqlite":
        whole = [{**row, **same} for row in rows]
        return set(connection.scalars(insert_or_ignore(connection, table).returning(key), whole))
    names = list(rows[0])
    document = json.dumps(rows, separators=(",", ":"))
    recordset = func.json_to_recordset(cast(literal(document, String), postgresql.JSON)).table_valued(
        *(column(name, table.c[name].type) for name in names)
    )
    constants = [literal(value, table.c[name].type) for name, value in same.items()]
    given = select(*recordset.render_derived(with_types=True).c, *constants)
    insert = insert_or_ignore(connection, table).from_select([*names, *same], given)
    return set(connection.scalars(insert.returning(key)))
