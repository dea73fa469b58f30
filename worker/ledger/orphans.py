"""Find and delete objects of ended runs that no row knows: left by a worker or a writer that died between upload and
commit, or by an image that was requeued and then failed.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine, select

from worker.core.batches import batched
from worker.core.storage.atomic_write import PART_PREFIX
from worker.core.storage.keys import parse_overlay_key, report_prefix
from worker.core.storage.object_store import ObjectStore
from worker.ledger.database import read_transaction
from worker.ledger.runs import ENDED_STATES
from worker.ledger.schema import gradings, reports, runs

MIN_AGE = timedelta(days=1)
"""No object younger than this is an orphan: its worker may be about to commit its row."""
PAGE_OBJECTS = 1000


@dataclass(frozen=True, slots=True)
class SweptRun:
    """An ended run that is not held."""

    run_id: int
    name: str


def find_runs_to_sweep(engine: Engine) -> list[SweptRun]:
    """Return all ended runs that are not under a legal hold. Raises DatabaseError."""
    query = select(runs.c.run_id, runs.c.name).where(runs.c.state.in_(ENDED_STATES), ~runs.c.held)
    with read_transaction(engine) as connection:
        return [SweptRun(row.run_id, row.name) for row in connection.execute(query.order_by(runs.c.run_id))]


def find_orphans(engine: Engine, store: ObjectStore, run: SweptRun, *, now: datetime) -> Iterator[list[str]]:
    """Yield the keys of the run's orphans page by page, in constant memory; a page may be empty.

    Keys in a form that this program does not write are never orphans. Raises StorageError and DatabaseError.
    """
    for page in batched(store.list_objects(f"{run.name}/"), PAGE_OBJECTS):
        old = [item.key for item in page if item.modified_at < now - MIN_AGE]
        with read_transaction(engine) as connection:
            yield select_orphans(connection, run, old, lock=False)


def count_orphans(engine: Engine, store: ObjectStore, *, now: datetime) -> int:
    """Count the orphans of all ended runs that are not held. Raises StorageError and DatabaseError."""
    found = (find_orphans(engine, store, run, now=now) for run in find_runs_to_sweep(engine))
    return sum(len(page) for pages in found for page in pages)


def select_orphans(connection: Connection, run: SweptRun, keys: Collection[str], *, lock: bool) -> list[str]:
    """Return those of the keys that no row knows; none is an orphan while the run has not ended or is held.

    lock: keep their images from being requeued until the transaction ends. A queued image may get its object any time.
    """
    ended = select(runs.c.run_id).where(runs.c.run_id == run.run_id, runs.c.state.in_(ENDED_STATES), ~runs.c.held)
    if not keys or connection.execute(ended).first() is None:
        return []
    image_ids = {key: image_id for key in keys if (image_id := parse_overlay_key(key)) is not None}
    query = select(gradings.c.image_id, gradings.c.overlay_key, gradings.c.retired_key, gradings.c.settled_at).where(
        gradings.c.run_id == run.run_id, gradings.c.image_id.in_(set(image_ids.values()))
    )
    rows = connection.execute(query.with_for_update() if lock else query).all()
    queued = {row.image_id for row in rows if row.settled_at is None}
    known = {key for row in rows for key in (row.overlay_key, row.retired_key)}
    has_report = connection.execute(select(reports.c.run_id).where(reports.c.run_id == run.run_id)).first() is not None
    return [
        key
        for key in keys
        if (key in image_ids and key not in known and image_ids[key] not in queued)
        or (key.startswith(report_prefix(run.name)) and not has_report)
        or key.rpartition("/")[2].startswith(PART_PREFIX)
    ]
