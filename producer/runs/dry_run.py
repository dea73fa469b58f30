"""Say what an enqueue would do, and write nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from sqlalchemy import Engine

from producer.runs.enqueue import BATCH_IMAGES, Progress
from producer.runs.lifecycle import RunRequest, check_request
from producer.runs.register import by_identity, read_known, refuse_conflicts
from worker.core.errors import SourceError
from worker.core.manifests.image_reference import ImageReference
from worker.ledger.database import read_transaction

SAMPLE = 5


@dataclass(frozen=True, slots=True)
class Plan:
    """`found` references were read, `new` of them would be added; `first` shows some. `resumes`: the run exists."""

    run: str
    resumes: bool
    found: int
    new: int
    first: tuple[ImageReference, ...]


def plan_enqueue(engine: Engine, request: RunRequest, references: Iterator[ImageReference], progress: Progress) -> Plan:
    """Read the whole source and hold it against the ledger.

    Ids that the source itself gives are remembered, to find one that stands for two images. Raises as `enqueue` does.
    """
    with read_transaction(engine) as connection:
        run = check_request(connection, request)
    first: tuple[ImageReference, ...] = ()
    given: dict[str, str] = {}
    found = new = 0
    while batch := list(islice(references, BATCH_IMAGES)):
        unique = by_identity(batch)
        seen = {image_id for image_id, reference in unique.items() if _is_repeated(reference, given)}
        with read_transaction(engine) as connection:
            known = read_known(connection, list(unique), None if run is None else run.run_id)
        refuse_conflicts(unique, known)
        first = first or tuple(batch[:SAMPLE])
        found += len(batch)
        new += sum(
            1 for image_id in unique if image_id not in seen and not (image_id in known and known[image_id].is_taken)
        )
        progress(found, new)
    return Plan(request.name, run is not None, found, new, first)


def _is_repeated(reference: ImageReference, given: dict[str, str]) -> bool:
    if reference.image_id is None:
        return False
    is_repeated = reference.image_id in given
    other = given.setdefault(reference.image_id, reference.uri)
    if other != reference.uri:
        raise SourceError(f"image_id {reference.image_id!r} stands for both {other} and {reference.uri}")
    return is_repeated
