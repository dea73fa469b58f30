"""How many people must read each image of a run."""

from collections.abc import Sequence

from sqlalchemy import Connection, Engine, select, true, update

from worker.core.vocabulary import Action, Review
from worker.ledger.audit_log import record_action
from worker.ledger.database import write_transaction
from worker.ledger.final_grades import ReviewDecision, read_decisions, resolve_review
from worker.ledger.report_leases import reschedule_report
from worker.ledger.review_schema import reading_rules, reviews
from worker.ledger.runs import Run
from worker.ledger.upserts import insert_or_ignore

REPORT_AFTER_S = 600
"""A run's report is written anew once nobody has decided on its images for so long."""


def readers_of(connection: Connection, run_id: int, default: int) -> int:
    """The run's rule; `default` where it has none yet."""
    rule = connection.scalar(select(reading_rules.c.readers).where(reading_rules.c.run_id == run_id))
    return default if rule is None else int(rule)


def pin_readers(connection: Connection, run_id: int, default: int) -> int:
    """The run's rule, from now on and to the end of the transaction: no setting changes what was decided under it."""
    connection.execute(insert_or_ignore(connection, reading_rules).values(run_id=run_id, readers=default))
    rule = select(reading_rules.c.readers).where(reading_rules.c.run_id == run_id)
    return int(connection.execute(rule.with_for_update(read=True)).scalar_one())


def set_readers(engine: Engine, run: Run, readers: int, by: str) -> None:
    """Change the rule, and judge by it anew what was decided already. Raises DatabaseError."""
    with write_transaction(engine) as connection:
        connection.execute(insert_or_ignore(connection, reading_rules).values(run_id=run.run_id, readers=readers))
        connection.execute(update(reading_rules).where(reading_rules.c.run_id == run.run_id).values(readers=readers))
        for image_id, decided in read_decisions(connection, run.run_id, run.name, true()).items():
            store_standing(connection, run.run_id, image_id, decided, readers)
        reschedule_report(connection, run.run_id, after_s=REPORT_AFTER_S)
        record_action(connection, Action.SET_READERS, by, run=run.name, readers=readers)


def store_standing(
    connection: Connection, run_id: int, image_id: str, decided: Sequence[ReviewDecision], readers: int
) -> None:
    """Where these decisions, all that there are, leave the image."""
    standing = resolve_review(decided, readers)
    connection.execute(
        update(reviews)
        .where(reviews.c.run_id == run_id, reviews.c.image_id == image_id)
        .values(
            state=standing.state,
            grade=standing.grade,
            decided_by=", ".join(standing.decided_by) or None,
            decided_at=standing.decided_at,
            # Not yet of a single reading: a filter would tell the second reader what the first one said.
            differs=standing.state is not Review.HALF_READ
            and any(decision.grade != decision.seen_grade for decision in decided),
        )
    )
