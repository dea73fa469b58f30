"""How the images of a run are read: by how many readers, and which of them see the model's result first."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, Select, select, true, update

from worker.core.vocabulary import Assistance, AuditAction, PublicationKind, ReviewState
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


@dataclass(frozen=True, slots=True)
class ReadingRule:
    """The number of readers of each image, 1 or 2, and which of them the model assists."""

    readers: int
    assistance: Assistance = Assistance.FIRST

    @property
    def hidden_states(self) -> tuple[ReviewState, ...]:
        """States of a review in which a reader does not see the model's result before their own decision."""
        return {
            Assistance.ALL: (),
            Assistance.FIRST: (ReviewState.HALF_READ,),
            Assistance.NONE: (ReviewState.UNREAD, ReviewState.HALF_READ, ReviewState.DISPUTED),
        }[self.assistance]

    @property
    def may_hide(self) -> bool:
        """Whether any reader decides without the model's result."""
        return self.assistance is Assistance.NONE or (self.assistance is Assistance.FIRST and self.readers > 1)


def read_rule(connection: Connection, run_id: int, default_readers: int) -> ReadingRule:
    """Return the reading rule of a run; with `default_readers` if none is set."""
    rule = connection.execute(_select_rule(run_id)).first()
    return ReadingRule(default_readers) if rule is None else ReadingRule(rule.readers, Assistance(rule.assistance))


def pin_rule(connection: Connection, run_id: int, default_readers: int) -> ReadingRule:
    """Return the reading rule of a run, storing the default if none is set. Locks it for the transaction.

    Once stored, a changed setting no longer affects the run.
    """
    connection.execute(insert_or_ignore(connection, reading_rules).values(run_id=run_id, readers=default_readers))
    rule = connection.execute(_select_rule(run_id).with_for_update(read=True)).one()
    return ReadingRule(rule.readers, Assistance(rule.assistance))


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


def set_assistance(engine: Engine, run: Run, assistance: Assistance, by: str, *, default_readers: int) -> None:
    """Set which readers of a run see the model's result before they decide. Raises DatabaseError."""
    with write_transaction(engine) as connection:
        connection.execute(
            insert_or_ignore(connection, reading_rules).values(run_id=run.run_id, readers=default_readers)
        )
        of_run = update(reading_rules).where(reading_rules.c.run_id == run.run_id)
        connection.execute(of_run.values(assistance=assistance))
        record_action(connection, AuditAction.SET_ASSISTANCE, by, run=run.name, assistance=assistance)


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


def _select_rule(run_id: int) -> Select[tuple[int, str]]:
    return select(reading_rules.c.readers, reading_rules.c.assistance).where(reading_rules.c.run_id == run_id)
