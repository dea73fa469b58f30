"""Assign the images of a run to readers, most urgent first. A lease gives each image to one reader at a time."""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Engine, Select, and_, exists, func, or_, select, true, update

from worker.console.filters import is_low_confidence
from worker.console.reader_images import mark_skipped
from worker.console.reader_policy import ReadingRule, pin_rule
from worker.console.sessions import SessionUser
from worker.core.errors import ServiceError
from worker.core.vocabulary import REFERABLE_FROM, Grade, ReviewState, Status
from worker.ledger.database import epoch_now, read_transaction, write_transaction
from worker.ledger.final_grades import DECIDED_STATES, is_standing
from worker.ledger.review_schema import decisions, reader_images, reviews
from worker.ledger.runs import Run
from worker.ledger.schema import gradings
from worker.ledger.upserts import insert_or_ignore

LEASE_S = 600
"""Duration of a lease. An open page renews it; after the page is closed the lease expires."""
MAX_ATTEMPTS = 20


def lease_next_image(
    engine: Engine, run: Run, user: SessionUser, *, default_readers: int, skip: str = ""
) -> str | None:
    """Lease the next image for a reader, for LEASE_S seconds, and return its id; None if none is left.

    An image that the reader already holds is returned first; `skip` releases one and puts it off until no others are
    left. Raises ServiceError if other readers leased each of MAX_ATTEMPTS candidates first, and DatabaseError.
    """
    for _ in range(MAX_ATTEMPTS):
        with write_transaction(engine) as connection:
            rule = pin_rule(connection, run.run_id, default_readers)
            if skip and _release_lease(connection, run.run_id, skip, user):
                mark_skipped(connection, run.run_id, skip, user)
            chosen = (
                _find_leased(connection, run.run_id, user)
                or _find_most_urgent(connection, run.run_id, rule, user, skip)
                or _find_skipped(connection, run.run_id, user, skip)
            )
            if chosen is None:
                return None
            if _lease(connection, run.run_id, chosen, user):
                return chosen
    raise ServiceError("every candidate image was leased by another reader first: try again")


def renew_lease(engine: Engine, run_id: int, image_id: str, user: SessionUser) -> bool:
    """Extend a lease by LEASE_S seconds. Return False if this reader no longer holds it."""
    with write_transaction(engine) as connection:
        return bool(
            connection.execute(
                update(reviews)
                .where(*_of(run_id, image_id), reviews.c.leased_by == user.name)
                .values(leased_until=epoch_now() + LEASE_S)
            ).rowcount
        )


def lease_holder(engine: Engine, run_id: int, image_id: str) -> str | None:
    """Return the reader who holds the lease of an image, if any."""
    with read_transaction(engine) as connection:
        return connection.scalar(
            select(reviews.c.leased_by).where(*_of(run_id, image_id), reviews.c.leased_until > epoch_now())
        )


def count_reviews(engine: Engine, run_id: int) -> dict[ReviewState, int]:
    """Count the images of a run by review state; images without a review are not counted."""
    query = select(reviews.c.state, func.count()).where(reviews.c.run_id == run_id).group_by(reviews.c.state)
    with read_transaction(engine) as connection:
        return {ReviewState(state): count for state, count in connection.execute(query)}


@dataclass(frozen=True, slots=True)
class WorkLeft:
    """Images of a run that a reader may still decide, those among them that the reader skipped, and all to be read."""

    left: int
    skipped: int
    total: int


def count_work_left(engine: Engine, run_id: int, user: SessionUser) -> WorkLeft:
    """Count what is left to a reader. Raises DatabaseError."""
    own = _has_decided(reviews.c.run_id, reviews.c.image_id, user)
    is_open = reviews.c.state.in_((ReviewState.HALF_READ, ReviewState.DISPUTED))
    done = select(func.count()).where(
        reviews.c.run_id == run_id, or_(reviews.c.state.in_(DECIDED_STATES), and_(is_open, own))
    )
    total = select(func.count()).where(
        gradings.c.run_id == run_id, gradings.c.status.in_((Status.GRADED, Status.UNGRADABLE))
    )
    skipped = (
        select(func.count())
        .select_from(reader_images)
        .join(reviews, and_(reviews.c.run_id == reader_images.c.run_id, reviews.c.image_id == reader_images.c.image_id))
        .where(*_is_skipped(run_id, user), reviews.c.state.not_in(DECIDED_STATES), ~own)
    )
    with read_transaction(engine) as connection:
        counts = [connection.scalar(query) or 0 for query in (done, skipped, total)]
    return WorkLeft(counts[2] - counts[0], counts[1], counts[2])


def _find_skipped(connection: Connection, run_id: int, user: SessionUser, skip: str) -> str | None:
    """Return the image that the reader skipped first and that is still open."""
    of_reader = select(reader_images.c.skipped_at).where(
        *_is_skipped(run_id, user), reader_images.c.image_id == gradings.c.image_id
    )
    query = _open_images(run_id, user, skip).where(of_reader.exists()).order_by(of_reader.scalar_subquery())
    found = connection.scalar(query.limit(1))
    return None if found is None else str(found)


def _is_skipped(run_id: int, user: SessionUser) -> tuple[ColumnElement[bool], ...]:
    return (
        reader_images.c.run_id == run_id,
        reader_images.c.reader == user.name,
        reader_images.c.skipped_at.is_not(None),
    )


def _find_most_urgent(
    connection: Connection, run_id: int, rule: ReadingRule, user: SessionUser, skip: str
) -> str | None:
    skipped = exists().where(*_is_skipped(run_id, user), reader_images.c.image_id == gradings.c.image_id)
    for priority in _priorities(run_id, rule):
        found = connection.scalar(
            _open_images(run_id, user, skip).where(priority, ~skipped).order_by(gradings.c.image_id).limit(1)
        )
        if found is not None:
            return str(found)
    return None


def _priorities(run_id: int, rule: ReadingRule) -> Iterator[ColumnElement[bool]]:
    """Yield the conditions of each priority: disputed; referable, worst first; ungradable; low confidence; the rest.

    Where readers do not see the model's result, its grade must not show in the order: second readings then follow the
    image ids, and where no reader is assisted, all do. The database answers each by one index lookup.
    """
    yield reviews.c.state == ReviewState.DISPUTED
    if ReviewState.HALF_READ in rule.hidden_states:
        yield reviews.c.state == ReviewState.HALF_READ
    if ReviewState.UNREAD in rule.hidden_states:
        yield true()
        return
    for grade in reversed(Grade):
        if grade >= REFERABLE_FROM:
            yield _graded(grade)
    yield gradings.c.status == Status.UNGRADABLE
    rest = [grade for grade in reversed(Grade) if grade < REFERABLE_FROM]
    for grade in rest:
        yield and_(_graded(grade), is_low_confidence(run_id))
    for grade in rest:
        yield _graded(grade)


def _graded(grade: Grade) -> ColumnElement[bool]:
    return and_(gradings.c.status == Status.GRADED, gradings.c.grade == int(grade))


def _open_images(run_id: int, user: SessionUser, skip: str) -> Select[tuple[str]]:
    """Select the ids of images that need a review and are open to this user."""
    own = _has_decided(gradings.c.run_id, gradings.c.image_id, user)
    return (
        select(gradings.c.image_id)
        .outerjoin(reviews, and_(reviews.c.run_id == gradings.c.run_id, reviews.c.image_id == gradings.c.image_id))
        .where(
            gradings.c.run_id == run_id,
            gradings.c.image_id != skip,
            or_(reviews.c.leased_until.is_(None), reviews.c.leased_until <= epoch_now()),
            or_(
                reviews.c.state.is_(None),
                reviews.c.state == ReviewState.UNREAD,
                and_(reviews.c.state.in_((ReviewState.HALF_READ, ReviewState.DISPUTED)), ~own),
            ),
        )
    )


def _has_decided(run_id: ColumnElement[int], image_id: ColumnElement[str], user: SessionUser) -> ColumnElement[bool]:
    return exists().where(
        decisions.c.run_id == run_id, decisions.c.image_id == image_id, decisions.c.reader == user.name, is_standing()
    )


def _find_leased(connection: Connection, run_id: int, user: SessionUser) -> str | None:
    return connection.scalar(
        select(reviews.c.image_id).where(
            reviews.c.run_id == run_id, reviews.c.leased_by == user.name, reviews.c.leased_until > epoch_now()
        )
    )


def _lease(connection: Connection, run_id: int, image_id: str, user: SessionUser) -> bool:
    connection.execute(insert_or_ignore(connection, reviews).values(run_id=run_id, image_id=image_id))
    leased = connection.execute(
        update(reviews)
        .where(
            *_of(run_id, image_id),
            or_(
                reviews.c.leased_until.is_(None),
                reviews.c.leased_until <= epoch_now(),
                reviews.c.leased_by == user.name,
            ),
            # Another reader may have decided and released the lease since the image was chosen.
            reviews.c.state.not_in((ReviewState.READ, ReviewState.ARBITRATED)),
        )
        .values(leased_by=user.name, leased_until=epoch_now() + LEASE_S)
    )
    return bool(leased.rowcount)


def _release_lease(connection: Connection, run_id: int, image_id: str, user: SessionUser) -> bool:
    released = connection.execute(
        update(reviews)
        .where(*_of(run_id, image_id), reviews.c.leased_by == user.name)
        .values(leased_by=None, leased_until=None)
    )
    return bool(released.rowcount)


def _of(run_id: int, image_id: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return reviews.c.run_id == run_id, reviews.c.image_id == image_id
