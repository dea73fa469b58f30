"""Register references in the ledger: per batch one transaction, per reference one image and one queued grading."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Connection, Engine, bindparam, func, select, update
from sqlalchemy.exc import IntegrityError

from producer.runs.seen_images import find_programme, find_seen_images, record_seen_images
from worker.core.errors import DatabaseError, RunError, SourceError
from worker.core.manifests.image_reference import ImageReference
from worker.core.uris import is_moved_instance
from worker.core.vocabulary import Eye, RunState, Status
from worker.ledger.database import epoch_now, write_transaction
from worker.ledger.runs import Run
from worker.ledger.schema import gradings, images, runs
from worker.ledger.upserts import bulk_insert_or_ignore

_ATTRIBUTES = ("uri", "patient_id", "eye", "reference_grade", "sha256", "source", "study_date")


@dataclass(frozen=True, slots=True)
class KnownImage:
    """An image in the ledger. `is_in_run`: whether the run in question has a grading of it."""

    reference: ImageReference
    is_in_run: bool


def register_batch(
    engine: Engine, run: Run, references: Sequence[ImageReference], *, position: int, resend_after_s: float
) -> tuple[str, ...]:
    """Commit a batch and return the ids of the images that are new to the run, in the order given.

    New images are numbered from `position`. In a nightly run, an image is not new if an earlier night of the programme
    had it in the same version. Images already in the ledger get the newly given attributes. Idempotent. Raises
    SourceError if an image_id is already used for another URI, RunError if the run has been cancelled, DatabaseError if
    the ledger does not answer or retention deletes an image concurrently; then nothing of the batch is committed.
    """
    batch = index_by_image_id(references)
    try:
        with write_transaction(engine) as connection:
            return _register(connection, run, batch, position, resend_after_s)
    except IntegrityError as error:
        if "foreign key" not in str(error.orig).lower():
            raise
        raise DatabaseError("an image of the batch was deleted while it was being registered") from error


def _register(
    connection: Connection, run: Run, batch: Mapping[str, ImageReference], position: int, resend_after_s: float
) -> tuple[str, ...]:
    _keep_open(connection, run)
    programme = find_programme(connection, run)
    seen = set[str]() if programme is None else find_seen_images(connection, programme, batch)
    # Retention may have deleted a seen image; it must not be inserted again.
    inserted = _insert_images(connection, {image_id: batch[image_id] for image_id in batch if image_id not in seen})
    known = read_known_images(connection, [image_id for image_id in batch if image_id not in inserted], run.run_id)
    check_uri_conflicts(batch, known)
    _update_images(connection, batch, known)
    taken = seen.union(image_id for image_id, image in known.items() if image.is_in_run)
    wanted = [image_id for image_id in batch if image_id not in taken]
    new = _insert_gradings(connection, run, wanted, position, resend_after_s)
    if programme is not None:
        record_seen_images(connection, programme, run, [batch[image_id] for image_id in new])
    return new


def index_by_image_id(references: Iterable[ImageReference]) -> dict[str, ImageReference]:
    """Return the references by image id, of copies of a DICOM instance the first.

    Raises SourceError for any other image id with two URIs.
    """
    batch: dict[str, ImageReference] = {}
    for reference in references:
        image_id = reference.identity
        other = batch.setdefault(image_id, reference)
        if other.uri != reference.uri and other.is_instance and reference.is_instance:
            continue
        if other.uri != reference.uri:
            raise SourceError(f"image_id {image_id!r} is used for both {other.uri} and {reference.uri}")
        batch[image_id] = reference
    return batch


def read_known_images(connection: Connection, image_ids: Sequence[str], run_id: int | None) -> dict[str, KnownImage]:
    """Return those of the images that are in the ledger, by image id."""
    rows = connection.execute(select(images).where(images.c.image_id.in_(image_ids))).all()
    of_run = select(gradings.c.image_id).where(gradings.c.image_id.in_(image_ids), gradings.c.run_id == run_id)
    taken = set(connection.scalars(of_run))
    return {
        row.image_id: KnownImage(
            ImageReference(
                row.uri,
                row.image_id,
                row.patient_id,
                Eye(row.eye),
                row.reference_grade,
                row.sha256,
                row.source,
                row.study_date,
            ),
            row.image_id in taken,
        )
        for row in rows
    }


def check_uri_conflicts(batch: Mapping[str, ImageReference], known: Mapping[str, KnownImage]) -> None:
    """Raise SourceError if the ledger has an image id of the batch with another URI.

    A DICOM instance that was moved or copied is the same one; the ledger then gets its new URI.
    """
    for image_id, image in known.items():
        known_uri, uri = image.reference.uri, batch[image_id].uri
        if known_uri != uri and not batch[image_id].is_instance and not is_moved_instance(known_uri, uri):
            raise SourceError(f"image_id {image_id!r} is {known_uri} in the ledger and {uri} in the source")


def _keep_open(connection: Connection, run: Run) -> None:
    """Keep the run open until this transaction ends, even if another producer has just sealed it."""
    opened = connection.execute(
        update(runs)
        .where(runs.c.run_id == run.run_id, runs.c.state != RunState.CANCELLED)
        .values(state=RunState.OPEN, finished_at=None)
    )
    if opened.rowcount == 0:
        raise RunError(f"run {run.name} was cancelled while images were being registered")


def _insert_images(connection: Connection, batch: Mapping[str, ImageReference]) -> set[str]:
    # Sorted by key, so that two producers inserting the same images cannot deadlock.
    rows = [
        {
            "image_id": image_id,
            "uri": reference.uri,
            "patient_id": reference.patient_id,
            "eye": reference.eye,
            "reference_grade": reference.reference_grade,
            "sha256": reference.sha256,
            "source": reference.source,
            "study_date": reference.study_date,
        }
        for image_id, reference in sorted(batch.items())
    ]
    return bulk_insert_or_ignore(connection, images.c.image_id, rows, registered_at=datetime.now(UTC))


def _update_images(
    connection: Connection, batch: Mapping[str, ImageReference], known: Mapping[str, KnownImage]
) -> None:
    rows = []
    for image_id, image in sorted(known.items()):
        given = {name: getattr(batch[image_id], name) for name in _ATTRIBUTES}
        if given["eye"] == Eye.UNKNOWN:
            given["eye"] = None
        if any(value is not None and value != getattr(image.reference, name) for name, value in given.items()):
            rows.append({"known_id": image_id} | {f"given_{name}": value for name, value in given.items()})
    if rows:
        connection.execute(
            update(images)
            .where(images.c.image_id == bindparam("known_id"))
            .values(dict(map(_given_or_kept, _ATTRIBUTES))),
            rows,
        )


def _given_or_kept(name: str) -> tuple[str, ColumnElement[object]]:
    """Build the assignment of an attribute: one that is not given is not written, even if it was read as absent."""
    column = images.c[name]
    return name, func.coalesce(bindparam(f"given_{name}", type_=column.type), column)


def _insert_gradings(
    connection: Connection, run: Run, image_ids: Sequence[str], position: int, resend_after_s: float
) -> tuple[str, ...]:
    due_at = connection.scalar(select(epoch_now() + resend_after_s))
    new = bulk_insert_or_ignore(
        connection,
        gradings.c.image_id,
        [{"image_id": image_id, "position": place} for place, image_id in enumerate(image_ids, start=position)],
        run_id=run.run_id,
        status=Status.QUEUED,
        attempts=0,
        due_at=due_at,
        queued_at=datetime.now(UTC),
    )
    return tuple(image_id for image_id in image_ids if image_id in new)
