from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, insert, select, text
from sqlalchemy.exc import DBAPIError

from worker.core.errors import DatabaseError
from worker.ledger.database import read_transaction, write_transaction
from worker.ledger.review_schema import decisions, users

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def decided(engine: Engine) -> Engine:
    with write_transaction(engine) as connection:
        connection.execute(insert(users).values(name="anna", role="grader", password_hash="x", created_at=NOON))
        connection.execute(
            insert(decisions).values(
                run_id=1, run="night", image_id="x", reader="anna", kind="reading", grade=2, reason="",
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
