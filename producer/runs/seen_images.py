"""Track the version of each image that a programme has seen, so that a night enqueues only new and changed images."""

from collections.abc import Collection, Mapping

from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from worker.core.manifests.image_reference import ImageReference
from worker.core.vocabulary import RunKind, Status
from worker.ledger.runs import Run, lock_night
from worker.ledger.schema import gradings, nights, seen_images


def find_programme(connection: Connection, run: Run) -> str | None:
    """Return the programme of a nightly run, None for a manual run."""
    if run.kind != RunKind.NIGHTLY:
        return None
    return connection.scalar(select(nights.c.programme).where(nights.c.run_id == run.run_id))


def find_seen_images(connection: Connection, programme: str, batch: Mapping[str, ImageReference]) -> set[str]:
    """Return the ids of the images that the programme has seen in their present version.

    An image whose grading was cancelled counts as not seen. A missing version, in the source or in the ledger, counts
    as unchanged; the ledger records the version as soon as the source gives one.
    """
    rows = connection.execute(
        select(seen_images.c.image_id, seen_images.c.version, gradings.c.status)
        .outerjoin(
            gradings, (gradings.c.run_id == seen_images.c.run_id) & (gradings.c.image_id == seen_images.c.image_id)
        )
        .where(seen_images.c.programme == programme, seen_images.c.image_id.in_(batch))
    ).all()
    versions = {image_id: reference.content_version for image_id, reference in batch.items()}
    seen = {
        row.image_id: row.version
        for row in rows
        # The status is None if retention has deleted the grading.
        if row.status != Status.CANCELLED
        and (None in (row.version, versions[row.image_id]) or row.version == versions[row.image_id])
    }
    _record_versions(
        connection, programme, {i: versions[i] for i, version in seen.items() if version is None and versions[i]}
    )
    return set(seen)


def record_seen_images(connection: Connection, programme: str, run: Run, images: Collection[ImageReference]) -> None:
    """Record the versions as seen by the programme in this run. A closed night of the run is reopened."""
    if not images:
        return
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(seen_images)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["programme", "image_id"],
            set_={name: statement.excluded[name] for name in ("version", "run_id")},
        ),
        [
            {"programme": programme, "image_id": image.identity, "version": image.content_version, "run_id": run.run_id}
            for image in sorted(images, key=lambda image: image.identity)
        ],
    )
    lock_night(connection, run.run_id)  # `close-nights` may be closing it
    connection.execute(
        update(nights)
        .where(nights.c.run_id == run.run_id, nights.c.closed_at.is_not(None))
        .values(closed_at=None, told_at=None)
    )


def _record_versions(connection: Connection, programme: str, versions: Mapping[str, str | None]) -> None:
    if versions:
        connection.execute(
            update(seen_images)
            .where(seen_images.c.programme == programme, seen_images.c.image_id == bindparam("known_id"))
            .values(version=bindparam("new_version")),
            [{"known_id": image_id, "new_version": version} for image_id, version in sorted(versions.items())],
        )
