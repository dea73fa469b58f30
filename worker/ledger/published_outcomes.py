"""Read the outcome that a publication is about, as the ledger has it: nothing of it names a person but the readers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import exists, func, or_, select

from worker.core.vocabulary import DecisionKind, Eye, PublicationKind, PublicationState, Status
from worker.ledger.database import read_transaction
from worker.ledger.final_grades import is_standing
from worker.ledger.outbox_schema import outbox
from worker.ledger.review_schema import decisions, withdrawals
from worker.ledger.schema import OUTPUTS, gradings, images, inference_configurations, models, runs

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection, Engine

    from worker.ledger.outbox import Publication


UNKNOWN = "unknown"
"""Model of an outcome that no model computed."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The readers' final grade. grade: None for an ungradable image. readers: who gave it, the last one last."""

    decision_id: int
    grade: int | None
    readers: tuple[str, ...]
    at: datetime


@dataclass(frozen=True, slots=True)
class EarlierObject:
    """An object about the same image that was published before."""

    uid: str
    kind: PublicationKind
    is_reading: bool


@dataclass(frozen=True, slots=True)
class PublishedOutcome:
    """What is published about one image.

    probabilities: five, output k is P(grade >= k); empty for an ungradable image. position: of the image in its run.
    reading: the readers' grade that counts; None if the model's outcome does. program_version, engine, precision: None
    if the ledger did not record them. overlay: the overlay that was published; None without one. predecessor: the
    object of the same kind that this one replaces; a model's outcome never replaces a reading, unless it retracts it.
    retracted, withdrawn_at: the object of a reading that was withdrawn, and when; None if this one retracts nothing.
    """

    publication: Publication
    run: str
    position: int
    uri: str
    eye: Eye
    status: Status
    grade: int | None
    probabilities: tuple[float, ...]
    referable: bool | None
    error_code: str | None
    model_id: str
    model_name: str
    program_version: str | None
    engine: str | None
    precision: str | None
    overlay_key: str | None
    overlay: EarlierObject | None
    predecessor: EarlierObject | None
    retracted: EarlierObject | None
    reading: Reading | None
    withdrawn_at: datetime | None

    @property
    def made_at(self) -> datetime:
        """When the outcome or the reading was made, or the reading was withdrawn."""
        made_at = self.publication.settled_at if self.reading is None else self.reading.at
        return self.withdrawn_at or made_at

    @property
    def follows_reading(self) -> bool:
        """Whether it is a reading, or retracts one."""
        return self.publication.decision_id != 0


def read_published_outcome(engine: Engine, publication: Publication) -> PublishedOutcome | None:
    """Read what is published; None if the ledger no longer has this outcome. Raises DatabaseError."""
    with read_transaction(engine) as connection:
        return select_published_outcome(connection, publication, states=(PublicationState.PUBLISHED,))


def select_published_outcome(
    connection: Connection, publication: Publication, *, states: Collection[PublicationState]
) -> PublishedOutcome | None:
    """Read what is published; see `read_published_outcome`. states: of the earlier objects that it refers to."""
    row = connection.execute(_select_outcome(publication)).first()
    if row is None:
        return None
    objects = _read_earlier(connection, publication, states)
    decision_id = _find_earlier_decision(connection, publication) if publication.withdrawn else publication.decision_id
    reading = _read_reading(connection, publication, row.run, decision_id)
    if decision_id and reading is None:
        return None
    values = row._asdict()
    outputs = [values.pop(name) for name in OUTPUTS]
    return PublishedOutcome(
        **values
        | {
            "eye": Eye(row.eye),
            "status": Status(row.status),
            "model_id": row.model_id or UNKNOWN,
            "model_name": row.model_name or UNKNOWN,
        },
        publication=publication,
        probabilities=() if None in outputs else tuple(outputs),
        overlay=next((one for one in objects if one.kind is PublicationKind.OVERLAY), None),
        predecessor=next((one for one in objects if _is_replaced(one, publication)), None),
        retracted=_read_retracted(connection, publication) if publication.withdrawn else None,
        reading=reading,
        withdrawn_at=_read_withdrawal(connection, publication) if publication.withdrawn else None,
    )


def _select_outcome(publication: Publication) -> Any:
    return (
        select(
            runs.c.name.label("run"),
            gradings.c.position,
            images.c.uri,
            images.c.eye,
            gradings.c.status,
            gradings.c.grade,
            *(gradings.c[name] for name in OUTPUTS),
            gradings.c.referable,
            gradings.c.error_code,
            gradings.c.model_id,
            models.c.name.label("model_name"),
            inference_configurations.c.program_version,
            inference_configurations.c.engine,
            inference_configurations.c.precision,
            gradings.c.overlay_key,
        )
        .select_from(gradings)
        .join(runs, runs.c.run_id == gradings.c.run_id)
        .join(images, images.c.image_id == gradings.c.image_id)
        .outerjoin(models, models.c.model_id == gradings.c.model_id)
        .outerjoin(inference_configurations, inference_configurations.c.configuration_id == gradings.c.configuration_id)
        .where(
            gradings.c.run_id == publication.run_id,
            gradings.c.image_id == publication.image_id,
            gradings.c.settled_at == publication.settled_at,
            gradings.c.status.in_((Status.GRADED, Status.UNGRADABLE)),
        )
    )


def _read_earlier(
    connection: Connection, publication: Publication, states: Collection[PublicationState]
) -> list[EarlierObject]:
    """Return the other objects about the image in these states, the latest first; of its own kind, the earlier ones."""
    query = select(outbox.c.uid, outbox.c.kind, outbox.c.decision_id).where(
        outbox.c.run_id == publication.run_id,
        outbox.c.image_id == publication.image_id,
        outbox.c.state.in_(states),
        or_(outbox.c.kind != publication.kind, outbox.c.outbox_id < publication.outbox_id),
    )
    rows = connection.execute(query.order_by(outbox.c.outbox_id.desc()))
    return [EarlierObject(row.uid, PublicationKind(row.kind), bool(row.decision_id)) for row in rows]


def _is_replaced(earlier: EarlierObject, publication: Publication) -> bool:
    is_reading = publication.decision_id != 0
    return earlier.kind is publication.kind and (is_reading or not earlier.is_reading)


def _find_earlier_decision(connection: Connection, publication: Publication) -> int:
    """Return the decision that counts again once the publication's is withdrawn; 0 if none does.

    It is the last one before that made a grade final, as the outbox knows.
    """
    is_withdrawn = exists().where(withdrawals.c.decision_id == outbox.c.decision_id)
    query = select(func.max(outbox.c.decision_id)).where(
        *_is_reading_of(publication), outbox.c.decision_id < publication.decision_id, ~is_withdrawn
    )
    return connection.scalar(query) or 0


def _read_retracted(connection: Connection, publication: Publication) -> EarlierObject:
    """Return the object of the decision that was withdrawn, which is older than its retraction."""
    query = select(outbox.c.uid).where(*_is_reading_of(publication), outbox.c.decision_id == publication.decision_id)
    uid = connection.scalars(query.order_by(outbox.c.outbox_id.desc()).limit(1)).one()
    return EarlierObject(uid, publication.kind, is_reading=True)


def _read_withdrawal(connection: Connection, publication: Publication) -> datetime:
    query = select(withdrawals.c.at).where(withdrawals.c.decision_id == publication.decision_id)
    withdrawn_at: datetime = connection.execute(query).scalar_one()
    return withdrawn_at


def _is_reading_of(publication: Publication) -> Sequence[ColumnElement[bool]]:
    """Build the conditions for publications of readings of the same image and kind."""
    return (
        outbox.c.run_id == publication.run_id,
        outbox.c.image_id == publication.image_id,
        outbox.c.kind == publication.kind,
        outbox.c.decision_id > 0,
        ~outbox.c.withdrawn,
    )


def _read_reading(connection: Connection, publication: Publication, run: str, decision_id: int) -> Reading | None:
    """Return the reading that ends with a decision; None for the decision 0, and for one that was withdrawn.

    It depends on decisions alone, which are never changed, so that a repetition publishes the same.
    """
    query = select(decisions.c.decision_id, decisions.c.reader, decisions.c.kind, decisions.c.grade, decisions.c.at)
    rows = connection.execute(
        query.where(
            decisions.c.run_id == publication.run_id,
            decisions.c.run == run,
            decisions.c.image_id == publication.image_id,
            decisions.c.decision_id <= decision_id,
            is_standing(),
        ).order_by(decisions.c.decision_id)
    ).all()
    if not rows or rows[-1].decision_id != decision_id:
        return None
    last = rows[-1]
    latest: dict[str, Any] = {}
    for row in rows:
        latest.pop(row.reader, None)
        latest[row.reader] = row
    agree = [name for name, row in latest.items() if row.grade == last.grade]
    readers = (last.reader,) if last.kind == DecisionKind.ARBITRATION else tuple(agree)
    return Reading(last.decision_id, last.grade, readers, last.at)
