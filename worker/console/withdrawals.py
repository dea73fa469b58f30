"""Withdraw a reader's own latest decision: it stays in the ledger, and the withdrawal is an entry of its own."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, insert, update

from worker import __version__
from worker.console.decisions import ConflictError, lock_review, read_image_decisions
from worker.console.image_detail import ImageDetail, select_image_detail
from worker.console.reader_images import read_reader_image
from worker.console.reader_policy import REPORT_AFTER_S, pin_rule, update_review
from worker.console.review_queue import LEASE_S
from worker.console.sessions import SessionUser
from worker.core.vocabulary import AuditAction, DecisionKind, PublicationKind, ReviewState
from worker.ledger.audit_log import record_action
from worker.ledger.database import epoch_now, write_transaction
from worker.ledger.final_grades import ReviewDecision
from worker.ledger.outbox import enqueue_withdrawal
from worker.ledger.report_leases import reschedule_report
from worker.ledger.review_schema import reviews, withdrawals


def withdraw_decision(
    engine: Engine,
    run: str,
    image_id: str,
    user: SessionUser,
    decision_id: int,
    *,
    default_readers: int,
    publish: Collection[PublicationKind] = (),
) -> ReviewDecision:
    """Withdraw a decision, lease the image to its reader, and return the decision. publish: see `update_review`.

    What was published about it is retracted. Raises ConflictError unless it is the latest decision on the image and the
    user's own, if the user has seen the other reader's decision since, or if another reader holds the image; KeyError
    if the run has no such image; DatabaseError.
    """
    with write_transaction(engine) as connection:
        if (found := select_image_detail(connection, run, image_id)) is None:
            raise KeyError(image_id)
        readers = pin_rule(connection, found.run_id, default_readers).readers
        held_by = lock_review(connection, found, user)
        image = select_image_detail(connection, run, image_id) or found
        decided = read_image_decisions(connection, image)
        if held_by is not None:
            raise ConflictError(f"{held_by} is reviewing this image")
        withdrawn = _find(decided, user, decision_id)
        _check(connection, image, withdrawn, readers, user)
        connection.execute(
            insert(withdrawals).values(
                decision_id=decision_id, reader=user.name, at=datetime.now(UTC), version=__version__
            )
        )
        # Before what counts again is enqueued: publishers keep the order.
        enqueue_withdrawal(connection, image.run_id, image_id, decision_id)
        update_review(connection, image.run_id, image_id, read_image_decisions(connection, image), readers, publish)
        connection.execute(
            update(reviews)
            .where(reviews.c.run_id == image.run_id, reviews.c.image_id == image_id)
            .values(leased_by=user.name, leased_until=epoch_now() + LEASE_S)
        )
        reschedule_report(connection, image.run_id, after_s=REPORT_AFTER_S)
        record_action(connection, AuditAction.WITHDRAW, user.name, run=run, decision=decision_id)
    return withdrawn


def _find(decided: Sequence[ReviewDecision], user: SessionUser, decision_id: int) -> ReviewDecision:
    found = next((one for one in decided if one.decision_id == decision_id and one.reader == user.name), None)
    if found is None:
        raise ConflictError("this decision is not yours, or it was undone before")
    if decided[-1] is not found:
        raise ConflictError(f"{decided[-1].reader} has reviewed this image since")
    return found


def _check(
    connection: Connection, image: ImageDetail, decision: ReviewDecision, readers: int, user: SessionUser
) -> None:
    is_complete = image.review in (ReviewState.READ, ReviewState.DISPUTED, ReviewState.ARBITRATED)
    is_second = readers > 1 and is_complete and decision.kind is DecisionKind.READING
    if is_second and read_reader_image(connection, image.run_id, image.image_id, user).has_seen_decisions:
        raise ConflictError("you have seen the other reader's decision since")
