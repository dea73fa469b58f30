"""The number of readers that must review each image of a run."""

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, Engine, select, true, update

from worker.core.vocabulary import AuditAction, PublicationKind, ReviewState
from worker.ledger.audit_log import record_action
from worker.ledger.database import write_transaction
from worker.ledger.final_grades import DECIDED_STATES, ReviewDecision, read_decisions, resolve_review
from worker.ledger.outbox import enqueue_decision
from worker.ledger.report_leases import reschedule_report
from worker.ledger.review_schema import reading_rules, reviews
from worker.ledger.runs import Run
from worker.ledger.upserts import insert_or_ignore

REPORT_AFTER_S = 600
"""Delay between the last decision on a run and the update of its report."""


def read_reader_count(connection: Connection, run_id: int, default: int) -> int:
    """Return the number of readers of a run; `default` if it is not set."""
    rule = connection.scalar(select(reading_rules.c.readers).where(reading_rules.c.run_id == run_id))
    return default if rule is None else int(rule)


def pin_reader_count(connection: Connection, run_id: int, default: int) -> int:
    """Return the number of readers of a run, storing `default` if it is not set. Locks it for the transaction.

    Once stored, a changed setting no longer affects the run.
    """
    connection.execute(insert_or_ignore(connection, reading_rules).values(run_id=run_id, readers=default))
    rule = select(reading_rules.c.readers).where(reading_rules.c.run_id == run_id)
    return int(connection.execute(rule.with_for_update(read=True)).scalar_one())


def set_reader_count(
    engine: Engine, run: Run, readers: int, by: str, publish: Collection[PublicationKind] = ()
) -> None:
    """Set the number of readers of a run and resolve its existing reviews again; see `update_review`.

    Raises DatabaseError.
    """
    with write_transaction(engine) as connection:
        connection.execute(insert_or_ignore(connection, reading_rules).values(run_id=run.run_id, readers=readers))
        connection.execute(update(reading_rules).where(reading_rules.c.run_id == run.run_id).values(readers=readers))
        for image_id, decided in read_decisions(connection, run.run_id, run.name, true()).items():
            update_review(connection, run.run_id, image_id, decided, readers, publish)
        reschedule_report(connection, run.run_id, after_s=REPORT_AFTER_S)
        record_action(connection, AuditAction.SET_READERS, by, run=run.name, readers=readers)


def update_review(
    connection: Connection,
    run_id: int,
    image_id: str,
    decided: Sequence[ReviewDecision],
    readers: int,
    publish: Collection[PublicationKind] = (),
) -> None:
    """Store the state of an image's review that follows from all its decisions.

    publish: what the outbox receives once the readers' grade is final.
    """
    resolution = resolve_review(decided, readers)
    connection.execute(
        update(reviews)
        .where(reviews.c.run_id == run_id, reviews.c.image_id == image_id)
        .values(
            state=resolution.state,
            grade=resolution.grade,
            decided_by=", ".join(resolution.decided_by) or None,
            decided_at=resolution.decided_at,
            # Not after the first of two reviews: a filter would disclose it to the second reader.
            differs=resolution.state is not ReviewState.HALF_READ
            and any(decision.grade != decision.seen_grade for decision in decided),
        )
    )
    if resolution.state in DECIDED_STATES:
        enqueue_decision(connection, run_id, image_id, decided[-1].decision_id, publish)
