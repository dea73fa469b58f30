"""Undoing a decision: what counts afterwards, what the ledger keeps, and what is refused."""

import pytest
from sqlalchemy import Engine, insert, select, true, update

from tests.unit.producer.ledger_rows import NOON
from tests.unit.worker.console.accounts_and_runs import add_session_user, graded_run
from tests.unit.worker.console.test_decisions import image, submit_review
from worker.console.decisions import ConflictError
from worker.console.disclosure import disclose
from worker.console.review_queue import lease_holder
from worker.console.sessions import SessionUser
from worker.console.withdrawals import withdraw_decision
from worker.core.vocabulary import ReviewState
from worker.ledger.audit_log import read_audit_log
from worker.ledger.database import epoch_now, read_transaction, write_transaction
from worker.ledger.final_grades import read_decisions
from worker.ledger.outbox_schema import outbox
from worker.ledger.review_schema import decisions, reviews, withdrawals
from worker.ledger.runs import Run


@pytest.fixture
def run(engine: Engine) -> Run:
    return graded_run(engine, [2])


@pytest.fixture
def graders(engine: Engine) -> dict[str, SessionUser]:
    return {name: add_session_user(engine, name) for name in ("anna", "ben", "cleo")}


def undo(engine: Engine, user: SessionUser, decision_id: int, readers: int = 1) -> None:
    withdraw_decision(engine, "night", "00000", user, decision_id, default_readers=readers)


def test_undone_decision_stays_in_the_ledger_but_does_not_count(
    engine: Engine, run: Run, graders: dict[str, SessionUser]
) -> None:
    first = submit_review(engine, graders["anna"], 4)
    undo(engine, graders["anna"], first)
    assert (image(engine).review, image(engine).final_grade, image(engine).decided_by) == (ReviewState.UNREAD, 2, None)
    assert lease_holder(engine, run.run_id, "00000") == "anna"
    with read_transaction(engine) as connection:
        assert connection.execute(select(decisions.c.reader, decisions.c.grade, decisions.c.reason)).all() == [
            ("anna", 4, "why")
        ]
        assert connection.execute(select(withdrawals.c.decision_id, withdrawals.c.reader)).all() == [(first, "anna")]
        assert read_decisions(connection, run.run_id, run.name, true()) == {}
        (kept,) = read_decisions(connection, run.run_id, run.name, true(), withdrawn=True)["00000"]
        assert kept.withdrawn_at is not None
        assert not connection.scalar(select(reviews.c.differs))
    assert [entry["action"] for entry in read_audit_log(engine, run="night", last=9)][-2:] == ["decide", "withdraw"]
    submit_review(engine, graders["anna"], 3)
    assert (image(engine).final_grade, image(engine).decided_by) == (3, "anna")


def test_undo_restores_the_decision_before(engine: Engine, run: Run, graders: dict[str, SessionUser]) -> None:
    first = submit_review(engine, graders["anna"], 3)
    second = submit_review(engine, graders["ben"], 1, last_seen=first)
    undo(engine, graders["ben"], second)
    assert (image(engine).review, image(engine).final_grade, image(engine).decided_by) == (ReviewState.READ, 3, "anna")


def test_only_the_last_own_decision_can_be_undone_and_only_once(
    engine: Engine, run: Run, graders: dict[str, SessionUser]
) -> None:
    first = submit_review(engine, graders["anna"], 3)
    with pytest.raises(ConflictError, match="this decision is not yours"):
        undo(engine, graders["ben"], first)
    second = submit_review(engine, graders["ben"], 1, last_seen=first)
    with pytest.raises(ConflictError, match="ben has reviewed this image since"):
        undo(engine, graders["anna"], first)
    undo(engine, graders["ben"], second)
    with pytest.raises(ConflictError, match="or it was undone before"):
        undo(engine, graders["ben"], second)
    with pytest.raises(KeyError):
        withdraw_decision(engine, "night", "99999", graders["anna"], first, default_readers=1)


def test_second_of_two_readers_can_undo_until_they_see_the_first_decision(
    engine: Engine, run: Run, graders: dict[str, SessionUser]
) -> None:
    submit_review(engine, graders["anna"], 3, readers=2)
    second = submit_review(engine, graders["ben"], 1, readers=2)
    assert image(engine).review is ReviewState.DISPUTED
    undo(engine, graders["ben"], second, readers=2)
    assert image(engine).review is ReviewState.HALF_READ
    third = submit_review(engine, graders["ben"], 2, readers=2)
    shown = disclose(engine, image(engine), graders["ben"], 2)
    assert [one.reader for one in shown.visible] == ["anna", "ben"]
    with pytest.raises(ConflictError, match="you have seen the other reader's decision since"):
        undo(engine, graders["ben"], third, readers=2)


def test_arbitration_can_be_undone(engine: Engine, run: Run, graders: dict[str, SessionUser]) -> None:
    submit_review(engine, graders["anna"], 3, readers=2)
    last = submit_review(engine, graders["ben"], 1, readers=2)
    disclose(engine, image(engine), graders["cleo"], 2)
    arbitration = submit_review(engine, graders["cleo"], 2, readers=2, last_seen=last)
    undo(engine, graders["cleo"], arbitration, readers=2)
    assert image(engine).review is ReviewState.DISPUTED


def test_image_that_another_reader_holds_is_not_undone(
    engine: Engine, run: Run, graders: dict[str, SessionUser]
) -> None:
    first = submit_review(engine, graders["anna"], 3)
    with write_transaction(engine) as connection:
        connection.execute(update(reviews).values(leased_by="ben", leased_until=epoch_now() + 60))
    with pytest.raises(ConflictError, match="ben is reviewing this image"):
        undo(engine, graders["anna"], first)


def test_undone_decision_that_was_published_is_to_be_retracted(
    engine: Engine, run: Run, graders: dict[str, SessionUser]
) -> None:
    first = submit_review(engine, graders["anna"], 3)
    row = {"run_id": run.run_id, "image_id": "00000", "kind": "sr", "settled_at": NOON, "decision_id": first}
    row |= {"uid": "1.2.3", "due_at": 0.0, "queued_at": NOON, "state": "published", "published_at": NOON}
    with write_transaction(engine) as connection:
        connection.execute(insert(outbox).values(row))
    undo(engine, graders["anna"], first)
    with read_transaction(engine) as connection:
        query = select(outbox.c.kind, outbox.c.decision_id, outbox.c.withdrawn, outbox.c.state, outbox.c.settled_at)
        assert connection.execute(query.order_by(outbox.c.outbox_id)).all() == [
            ("sr", first, False, "published", NOON), ("sr", first, True, "pending", NOON),
        ]  # fmt: skip
