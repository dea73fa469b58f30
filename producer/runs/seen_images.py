"""Remember which version of each image a programme has had, so that a night takes only what is new or has changed."""

from collections.abc import Collection, Mapping

from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from worker.core.manifests.image_reference import ImageReference
from worker.core.vocabulary import RunKind, Status
from worker.ledger.runs import Run
from worker.ledger.schema import gradings, nights, seen_images


def programme_of(connection: Connection, run: Run) -> str | None:
    """Whose night the run is; None for any other run."""
    if run.kind != RunKind.NIGHTLY:
        return None
    return connection.scalar(select(nights.c.programme).where(nights.c.run_id == run.run_id))


def find_seen(connection: Connection, programme: str, batch: Mapping[str, ImageReference]) -> set[str]:
    """The images of the batch that the programme has had as they are now, under whatever outcome but cancelled.

    A version that nobody knows is taken for the same one; it is noted as soon as the source tells it.
    """
    rows = connection.execute(
        select(seen_images.c.image_id, seen_images.c.version, gradings.c.status)
        .outerjoin(
            gradings, (gradings.c.run_id == seen_images.c.run_id) & (gradings.c.image_id == seen_images.c.image_id)
        )
        .where(seen_images.c.programme == programme, seen_images.c.image_id.in_(batch))
    ).all()
    told = {image_id: reference.content_version for image_id, reference in batch.items()}
    had = {
        row.image_id: row.version
        for row in rows
        # No row: retention has deleted it.
        if row.status != Status.CANCELLED
        and (None in (row.version, told[row.image_id]) or row.version == told[row.image_id])
    }
    _record_versions(connection, programme, {i: told[i] for i, version in had.items() if version is None and told[i]})
    return set(had)


def record_seen_images(connection: Connection, programme: str, run: Run, images: Collection[ImageReference]) -> None:
    """These versions are in this run now; a night that was closed is opened again by them."""
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
            .values(version=bindparam("told")),
            [{"known_id": image_id, "told": version} for image_id, version in sorted(versions.items())],
        )
