from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, insert, select, text, update
from sqlalchemy.exc import DBAPIError

from worker.core.errors import DatabaseError
from worker.ledger.database import read_transaction, write_transaction
from worker.ledger.review_schema import decisions, users, withdrawals
from worker.ledger.schema import UtcDateTime

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def decided(engine: Engine) -> Engine:
    with write_transaction(engine) as connection:
        connection.execute(insert(users).values(name="anna", role="grader", password_hash="x", created_at=NOON))
        connection.execute(
            insert(decisions).values(
                run_id=1, run="night", image_id="x", reader="anna", kind="reading", grade=2, reason="as Mr Smith",
                seen_status="graded", seen_grade=2, at=NOON, version="1",
            )
        )  # fmt: skip
    return engine


@pytest.mark.parametrize(
    "statement", ["UPDATE decisions SET grade = 0", "DELETE FROM decisions", "TRUNCATE decisions", "DELETE FROM users"]
)
def test_decisions_are_append_only(decided: Engine, statement: str) -> None:
    if statement.startswith("TRUNCATE") and decided.dialect.name == "sqlite":
        statement = "DELETE FROM decisions WHERE decision_id = 1"
    with (
        pytest.raises((DBAPIError, DatabaseError), match=r"decisions are append-only|(?i:foreign key)"),
        write_transaction(decided) as connection,
    ):
        connection.execute(text(statement))
    with read_transaction(decided) as connection:
        assert connection.execute(select(decisions.c.reader, decisions.c.grade)).all() == [("anna", 2)]


def change(decided: Engine, **values: object) -> None:
    with write_transaction(decided) as connection:
        connection.execute(update(decisions).values(**values))


@pytest.mark.parametrize("column", [column.name for column in decisions.columns if column.name != "reason"])
def test_erasing_a_reason_changes_no_other_column(decided: Engine, column: str) -> None:
    kind = decisions.c[column].type
    value = (
        NOON.replace(hour=13)
        if isinstance(kind, UtcDateTime)
        else {str: "other", int: 3, bool: True, float: 3.5}[kind.python_type]
    )
    with pytest.raises((DBAPIError, DatabaseError), match="decisions are append-only"):
        change(decided, reason="", **{column: value})


def test_reason_can_be_erased_but_not_changed(decided: Engine) -> None:
    with pytest.raises((DBAPIError, DatabaseError), match="decisions are append-only"):
        change(decided, reason="another")
    change(decided, reason="")
    with read_transaction(decided) as connection:
        assert connection.execute(select(decisions.c.grade, decisions.c.reason)).all() == [(2, "")]


@pytest.mark.parametrize("statement", ["UPDATE withdrawals SET reader = 'anna'", "DELETE FROM withdrawals"])
def test_withdrawals_are_append_only(decided: Engine, statement: str) -> None:
    with write_transaction(decided) as connection:
        connection.execute(insert(withdrawals).values(decision_id=1, reader="anna", at=NOON, version="1"))
    with (
        pytest.raises((DBAPIError, DatabaseError), match="withdrawals are append-only"),
        write_transaction(decided) as connection,
    ):
        connection.execute(text(statement))
    change(decided, reason="")
