"""Hand out the images of a run to its readers, the most urgent first, each to one reader at a time."""

from collections.abc import Iterator

from sqlalchemy import ColumnElement, Connection, Engine, Select, and_, exists, func, or_, select, update

from worker.console.filters import is_unsure
from worker.console.reader_policy import pin_readers
from worker.console.sessions import Person
from worker.core.errors import ServiceError
from worker.core.vocabulary import REFERABLE_FROM, Grade, Review, Status
from worker.ledger.database import epoch_now, read_transaction, write_transaction
from worker.ledger.review_schema import decisions, reviews
from worker.ledger.runs import Run
from worker.ledger.schema import gradings
from worker.ledger.upserts import insert_or_ignore

LEASE_S = 600
"""An open page renews it; one that was closed gives its image back after this."""
TRIES = 20


def take_next(engine: Engine, run: Run, person: Person, *, default_readers: int, skip: str = "") -> str | None:
    """An image that is this reader's for LEASE_S seconds; None when nothing is left for this reader.

    The image that the reader holds already comes first, so that nothing is left lying; `skip` gives one back and asks
    for another. Raises ServiceError when other readers were quicker TRIES times, DatabaseError.
    """
    for _ in range(TRIES):
        with write_transaction(engine) as connection:
            pin_readers(connection, run.run_id, default_readers)
            if skip:
                _give_back(connection, run.run_id, skip, person)
            chosen = _held(connection, run.run_id, person) or _most_urgent(connection, run.run_id, person, skip)
            if chosen is None:
                return None
            if _lease(connection, run.run_id, chosen, person):
                return chosen
    raise ServiceError("other readers were quicker each time: ask again")


def renew(engine: Engine, run_id: int, image_id: str, person: Person) -> bool:
    """Hold an image for LEASE_S more seconds; false when it is no longer this reader's."""
    with write_transaction(engine) as connection:
        return bool(
            connection.execute(
                update(reviews)
                .where(*_of(run_id, image_id), reviews.c.leased_by == person.name)
                .values(leased_until=epoch_now() + LEASE_S)
            ).rowcount
        )


def holder(engine: Engine, run_id: int, image_id: str) -> str | None:
    """Who reads the image at this moment."""
    with read_transaction(engine) as connection:
        return connection.scalar(
            select(reviews.c.leased_by).where(*_of(run_id, image_id), reviews.c.leased_until > epoch_now())
        )


def count_reviews(engine: Engine, run_id: int) -> dict[Review, int]:
    """Images by what people did with them; those without any are not counted."""
    query = select(reviews.c.state, func.count()).where(reviews.c.run_id == run_id).group_by(reviews.c.state)
    with read_transaction(engine) as connection:
        return {Review(state): count for state, count in connection.execute(query)}


def _most_urgent(connection: Connection, run_id: int, person: Person, skip: str) -> str | None:
    for tier in _tiers(run_id):
        found = connection.scalar(_open_for(run_id, person, skip).where(tier).order_by(gradings.c.image_id).limit(1))
        if found is not None:
            return str(found)
    return None


def _tiers(run_id: int) -> Iterator[ColumnElement[bool]]:
    """What readers differ on; referable, the worst first; ungradable; unsure; the rest. One look at an index each."""
    yield reviews.c.state == Review.DISPUTED
    for grade in reversed(Grade):
        if grade >= REFERABLE_FROM:
            yield _graded(grade)
    yield gradings.c.status == Status.UNGRADABLE
    rest = [grade for grade in reversed(Grade) if grade < REFERABLE_FROM]
    for grade in rest:
        yield and_(_graded(grade), is_unsure(run_id))
    for grade in rest:
        yield _graded(grade)


def _graded(grade: Grade) -> ColumnElement[bool]:
    return and_(gradings.c.status == Status.GRADED, gradings.c.grade == int(grade))


def _open_for(run_id: int, person: Person, skip: str) -> Select[tuple[str]]:
    """Ids of images that still need somebody, and this person may be it."""
    own = exists().where(
        decisions.c.run_id == gradings.c.run_id,
        decisions.c.image_id == gradings.c.image_id,
        decisions.c.reader == person.name,
    )
    return (
        select(gradings.c.image_id)
        .outerjoin(reviews, and_(reviews.c.run_id == gradings.c.run_id, reviews.c.image_id == gradings.c.image_id))
        .where(
            gradings.c.run_id == run_id,
            gradings.c.image_id != skip,
            or_(reviews.c.leased_until.is_(None), reviews.c.leased_until <= epoch_now()),
            or_(
                reviews.c.state.is_(None),
                reviews.c.state == Review.UNREAD,
                and_(reviews.c.state.in_((Review.HALF_READ, Review.DISPUTED)), ~own),
            ),
        )
    )


def _held(connection: Connection, run_id: int, person: Person) -> str | None:
    return connection.scalar(
        select(reviews.c.image_id).where(
            reviews.c.run_id == run_id, reviews.c.leased_by == person.name, reviews.c.leased_until > epoch_now()
        )
    )


def _lease(connection: Connection, run_id: int, image_id: str, person: Person) -> bool:
    connection.execute(insert_or_ignore(connection, reviews).values(run_id=run_id, image_id=image_id))
    taken = connection.execute(
        update(reviews)
        .where(
            *_of(run_id, image_id),
            or_(
                reviews.c.leased_until.is_(None),
                reviews.c.leased_until <= epoch_now(),
                reviews.c.leased_by == person.name,
            ),
            # Another reader may have decided and let go since it was chosen.
            reviews.c.state.not_in((Review.READ, Review.ARBITRATED)),
        )
        .values(leased_by=person.name, leased_until=epoch_now() + LEASE_S)
    )
    return bool(taken.rowcount)


def _give_back(connection: Connection, run_id: int, image_id: str, person: Person) -> None:
    connection.execute(
        update(reviews)
        .where(*_of(run_id, image_id), reviews.c.leased_by == person.name)
        .values(leased_by=None, leased_until=None)
    )


def _of(run_id: int, image_id: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return reviews.c.run_id == run_id, reviews.c.image_id == image_id
