"""Insert rows and ignore those whose key exists, on SQLite and PostgreSQL."""

import json
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from sqlalchemy import Column, Connection, String, Table, cast, column, func, literal, select
from sqlalchemy.dialects import postgresql, sqlite

Rows = Sequence[Mapping[str, Any]]


def insert_or_ignore(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Build an INSERT that ignores a row whose key exists."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()


def bulk_insert_or_ignore(connection: Connection, key: Column[str], rows: Rows, **constants: object) -> set[str]:
    """Insert the rows whose key is new; return the keys that were inserted.

    key: primary-key column of the table to insert into. rows: JSON types and dates, all with the same columns.
    constants: columns with one value for all rows. On PostgreSQL all rows are sent as one JSON parameter; with one
    parameter for each value, most of the time would be spent on the statement's text.
    """
    if not rows:
        return set()
    table = key.table
    assert isinstance(table, Table)  # noqa: S101 - a column of the schema
    if connection.dialect.name == "sqlite":
        complete = [{**row, **constants} for row in rows]
        return set(connection.scalars(insert_or_ignore(connection, table).returning(key), complete))
    names = list(rows[0])
    document = json.dumps(rows, separators=(",", ":"), default=date.isoformat)
    recordset = func.json_to_recordset(cast(literal(document, String), postgresql.JSON)).table_valued(
        *(column(name, table.c[name].type) for name in names)
    )
    values = [literal(value, table.c[name].type) for name, value in constants.items()]
    given = select(*recordset.render_derived(with_types=True).c, *values)
    insert = insert_or_ignore(connection, table).from_select([*names, *constants], given)
    return set(connection.scalars(insert.returning(key)))
