"""Record a reader's decision on one image: check it, store it, and update the state of the image's review."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, insert, select, update

from worker import __version__
from worker.console.image_detail import ImageDetail, select_image_detail
from worker.console.reader_images import read_reader_image
from worker.console.reader_policy import REPORT_AFTER_S, pin_rule, update_review
from worker.console.sessions import SessionUser
from worker.core.errors import FundusError
from worker.core.vocabulary import AuditAction, DecisionKind, Finding, PublicationKind, ReviewState, Role
from worker.ledger.audit_log import record_action
from worker.ledger.database import epoch_now, write_transaction
from worker.ledger.final_grades import ReviewDecision, read_decisions
from worker.ledger.report_leases import reschedule_report
from worker.ledger.review_schema import MAX_REASON_CHARS, decisions, reviews
from worker.ledger.upserts import insert_or_ignore

NOT_GRADED = "this is no longer the photograph that was graded"


class ConflictError(FundusError):
    """The image has changed since the reader opened it, or is not open to this reader. Nothing was stored."""

    code = "decision_conflict"


@dataclass(frozen=True, slots=True)
class ReviewForm:
    """A submitted review. `grade` None means ungradable.

    The page displayed the model result `shown`, decisions up to the one with the id `last_seen` (0: none), and the
    photograph with the SHA-256 `photograph` (None: it could not be displayed). It hid the model result if `unassisted`,
    and was open for `seconds` (None: unknown).
    """

    grade: int | None
    reason: str
    shown: str
    last_seen: int
    photograph: str | None = None
    findings: tuple[Finding, ...] = ()
    unassisted: bool = False
    seconds: float | None = None


def record_decision(
    engine: Engine,
    run: str,
    image_id: str,
    user: SessionUser,
    form: ReviewForm,
    *,
    default_readers: int,
    publish: Collection[PublicationKind] = (),
) -> int:
    """Store the decision of a review form and return its id. publish: see `update_review`.

    Raises ConflictError if another reader holds the image or has decided since the page was opened, if the model
    result or the photograph has changed, or if this user may not decide; KeyError if the run has no such image;
    ValueError if a required reason is missing or too long; DatabaseError.
    """
    with write_transaction(engine) as connection:
        if (found := select_image_detail(connection, run, image_id)) is None:
            raise KeyError(image_id)
        readers = pin_rule(connection, found.run_id, default_readers).readers
        held_by = lock_review(connection, found, user)
        # Read again: another reader may have decided while this one waited for the lock.
        image = select_image_detail(connection, run, image_id) or found
        decided = read_image_decisions(connection, image)
        kind = allowed_decision(decided, image.review, readers, user)
        if kind is None:
            raise ConflictError("both reviews of this image are complete; if they disagree, a third reader arbitrates")
        if held_by is not None:
            raise ConflictError(f"{held_by} is reviewing this image")
        # What a reader has seen since the page was opened counts, too.
        has_seen_result = read_reader_image(connection, image.run_id, image_id, user).has_seen_result
        form = replace(form, unassisted=form.unassisted and not has_seen_result)
        _check(image, kind, form, visible_decisions(decided, image.review, readers, user))
        number = connection.execute(
            insert(decisions)
            .values(
                run_id=image.run_id,
                run=image.run,
                image_id=image_id,
                reader=user.name,
                kind=kind,
                grade=form.grade,
                reason=form.reason,
                seen_status=image.status,
                seen_grade=image.grade,
                seen_model_id=image.model_id,
                seen_sha256=form.photograph,
                findings=",".join(form.findings),
                unassisted=form.unassisted,
                seconds=form.seconds,
                at=datetime.now(UTC),
                version=__version__,
            )
            .returning(decisions.c.decision_id)
        ).scalar_one()
        update_review(connection, image.run_id, image_id, read_image_decisions(connection, image), readers, publish)
        _release_lease(connection, image, user)
        reschedule_report(connection, image.run_id, after_s=REPORT_AFTER_S)
        record_action(connection, AuditAction.DECIDE, user.name, run=run, decision=number, kind=kind)
    return int(number)


def read_image_decisions(
    connection: Connection, image: ImageDetail, *, withdrawn: bool = False
) -> Sequence[ReviewDecision]:
    """Return all decisions on an image, oldest first. withdrawn: also those that were withdrawn."""
    of_image = decisions.c.image_id == image.image_id
    found = read_decisions(connection, image.run_id, image.run, of_image, withdrawn=withdrawn)
    return found.get(image.image_id, ())


def allowed_decision(
    decided: Sequence[ReviewDecision], review: ReviewState, readers: int, user: SessionUser
) -> DecisionKind | None:
    """Return the kind of decision that this user may make now; None if they may not decide."""
    if user.role is not Role.GRADER:
        return None
    if readers == 1 and review is not ReviewState.ARBITRATED:
        return DecisionKind.READING
    if review in (ReviewState.UNREAD, ReviewState.HALF_READ):
        return DecisionKind.READING
    # Both reviews are complete: only a third reader may arbitrate.
    has_reviewed = any(one.reader == user.name and one.kind is DecisionKind.READING for one in decided)
    return None if has_reviewed else DecisionKind.ARBITRATION


def visible_decisions(
    decided: Sequence[ReviewDecision], review: ReviewState, readers: int, user: SessionUser
) -> Sequence[ReviewDecision]:
    """Return the decisions that this user may see.

    Of two readers, each sees only their own decisions until both have reviewed the image.
    """
    blind = readers > 1 and review in (ReviewState.UNREAD, ReviewState.HALF_READ) and user.role is Role.GRADER
    return [one for one in decided if one.reader == user.name] if blind else decided


def lock_review(connection: Connection, image: ImageDetail, user: SessionUser) -> str | None:
    """Lock the review of an image for this transaction. Return the other reader who holds its lease, if any."""
    key = (reviews.c.run_id == image.run_id, reviews.c.image_id == image.image_id)
    connection.execute(insert_or_ignore(connection, reviews).values(run_id=image.run_id, image_id=image.image_id))
    row = connection.execute(
        select(reviews.c.leased_by, (reviews.c.leased_until > epoch_now()).label("live")).where(*key).with_for_update()
    ).one()
    return row.leased_by if row.live and row.leased_by != user.name else None


def _check(image: ImageDetail, kind: DecisionKind, form: ReviewForm, seen: Sequence[ReviewDecision]) -> None:
    if not image.is_reviewable:
        raise ConflictError(f"an image with status {image.status} cannot be reviewed")
    graded = image.source.content_sha256
    if form.photograph is not None and graded is not None and form.photograph != graded:
        raise ConflictError(NOT_GRADED)
    if form.shown != image.model_result:
        raise ConflictError("the model has graded this image again since you opened it: check the new result")
    if seen and seen[-1].decision_id != form.last_seen:
        raise ConflictError(f"{seen[-1].reader} has reviewed this image since you opened it: check the new decision")
    differs = form.grade != image.grade and not form.unassisted
    if not form.reason and (differs or kind is DecisionKind.ARBITRATION):
        raise ValueError("a reason is required if you disagree with the model or arbitrate")
    if len(form.reason) > MAX_REASON_CHARS:
        raise ValueError(f"the reason has {len(form.reason):,} characters; the limit is {MAX_REASON_CHARS:,}")


def _release_lease(connection: Connection, image: ImageDetail, user: SessionUser) -> None:
    connection.execute(
        update(reviews)
        .where(
            reviews.c.run_id == image.run_id,
            reviews.c.image_id == image.image_id,
            reviews.c.leased_by == user.name,
        )
        .values(leased_by=None, leased_until=None)
    )
