"""A person decides on one image: checked, added to the decisions, and the image's standing brought up to date."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, insert, select, update

from worker import __version__
from worker.console.image_detail import ReadImage, select_image
from worker.console.reader_policy import REPORT_AFTER_S, pin_readers, store_standing
from worker.console.sessions import Person
from worker.core.errors import FundusError
from worker.core.vocabulary import Action, DecisionKind, Review, Role
from worker.ledger.audit_log import record_action
from worker.ledger.database import epoch_now, write_transaction
from worker.ledger.final_grades import ReviewDecision, read_decisions
from worker.ledger.report_leases import reschedule_report
from worker.ledger.review_schema import MAX_REASON_CHARS, decisions, reviews
from worker.ledger.upserts import insert_or_ignore


class ConflictError(FundusError):
    """The image is no longer as the reader saw it; nothing was written, and the reader looks again."""

    code = "decision_conflict"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a form says. `grade` None: cannot be graded. `shown` and `last_seen`: what its page had shown."""

    grade: int | None
    reason: str
    shown: str
    last_seen: int


def decide(engine: Engine, run: str, image_id: str, person: Person, verdict: Verdict, *, default_readers: int) -> int:
    """The new decision's number.

    Raises ConflictError for an image that somebody else reads at this moment, or has decided on since, or that is
    not the reader's to decide; KeyError where the run has no such image; ValueError, with a sentence, for a verdict
    that lacks its reason; DatabaseError.
    """
    with write_transaction(engine) as connection:
        if (found := select_image(connection, run, image_id)) is None:
            raise KeyError(image_id)
        readers = pin_readers(connection, found.run_id, default_readers)
        held_by = _lock(connection, found, person)
        # Read anew: somebody may have decided while the lock was waited for.
        image = select_image(connection, run, image_id) or found
        decided = decisions_on(connection, image)
        kind = kind_for(decided, image.review, readers, person)
        if kind is None:
            raise ConflictError("both readings of this image are in; where they differ, a third person decides")
        if held_by is not None:
            raise ConflictError(f"{held_by} reads this image at this moment")
        _check(image, kind, verdict, visible_to(decided, image.review, readers, person))
        number = connection.execute(
            insert(decisions)
            .values(
                run_id=image.run_id,
                run=image.run,
                image_id=image_id,
                reader=person.name,
                kind=kind,
                grade=verdict.grade,
                reason=verdict.reason,
                seen_status=image.status,
                seen_grade=image.grade,
                seen_model_id=image.model_id,
                at=datetime.now(UTC),
                version=__version__,
            )
            .returning(decisions.c.decision_id)
        ).scalar_one()
        store_standing(connection, image.run_id, image_id, decisions_on(connection, image), readers)
        _let_go(connection, image, person)
        reschedule_report(connection, image.run_id, after_s=REPORT_AFTER_S)
        record_action(connection, Action.DECIDE, person.name, run=run, decision=number, kind=kind)
    return int(number)


def decisions_on(connection: Connection, image: ReadImage) -> Sequence[ReviewDecision]:
    """All decisions on one image, oldest first."""
    of_image = decisions.c.image_id == image.image_id
    return read_decisions(connection, image.run_id, image.run, of_image).get(image.image_id, ())


def kind_for(decided: Sequence[ReviewDecision], review: Review, readers: int, person: Person) -> DecisionKind | None:
    """As what this person may decide now; None: not at all."""
    if person.role is not Role.GRADER:
        return None
    if readers == 1 and review is not Review.ARBITRATED:
        return DecisionKind.READING
    if review in (Review.UNREAD, Review.HALF_READ):
        return DecisionKind.READING
    # Both have read: only somebody else may say more.
    has_read = any(one.reader == person.name and one.kind is DecisionKind.READING for one in decided)
    return None if has_read else DecisionKind.ARBITRATION


def visible_to(
    decided: Sequence[ReviewDecision], review: Review, readers: int, person: Person
) -> Sequence[ReviewDecision]:
    """A second reader must not know what the first one said: until both have read, each sees the own readings alone."""
    blind = readers > 1 and review in (Review.UNREAD, Review.HALF_READ) and person.role is Role.GRADER
    return [one for one in decided if one.reader == person.name] if blind else decided


def _lock(connection: Connection, image: ReadImage, person: Person) -> str | None:
    """Keep everybody else from deciding on the image until the transaction ends; who else reads it, if anybody."""
    key = (reviews.c.run_id == image.run_id, reviews.c.image_id == image.image_id)
    connection.execute(insert_or_ignore(connection, reviews).values(run_id=image.run_id, image_id=image.image_id))
    row = connection.execute(
        select(reviews.c.leased_by, (reviews.c.leased_until > epoch_now()).label("live")).where(*key).with_for_update()
    ).one()
    return row.leased_by if row.live and row.leased_by != person.name else None


def _check(image: ReadImage, kind: DecisionKind, verdict: Verdict, seen: Sequence[ReviewDecision]) -> None:
    if not image.can_be_read:
        raise ConflictError(f"an image that is {image.status} has nothing to decide on")
    if verdict.shown != image.shown:
        raise ConflictError("the image was graded anew since you opened it: look again")
    if seen and seen[-1].decision_id != verdict.last_seen:
        raise ConflictError(f"{seen[-1].reader} has decided on this image since you opened it: look again")
    if not verdict.reason and (verdict.grade != image.grade or kind is DecisionKind.ARBITRATION):
        raise ValueError("say why, where you decide otherwise than the model or between two readers")
    if len(verdict.reason) > MAX_REASON_CHARS:
        raise ValueError(f"the reason has {len(verdict.reason):,} characters, {MAX_REASON_CHARS:,} at most")


def _let_go(connection: Connection, image: ReadImage, person: Person) -> None:
    connection.execute(
        update(reviews)
        .where(
            reviews.c.run_id == image.run_id,
            reviews.c.image_id == image.image_id,
            reviews.c.leased_by == person.name,
        )
        .values(leased_by=None, leased_until=None)
    )
