"""Report what an enqueue would do without writing anything."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from sqlalchemy import Engine

from producer.runs.enqueue import BATCH_IMAGES, OnEnqueueProgress
from producer.runs.lifecycle import RunRequest, find_resumable_run
from producer.runs.register import check_uri_conflicts, index_by_image_id, read_known_images
from worker.core.errors import SourceError
from worker.core.manifests.image_reference import ImageReference
from worker.ledger.database import read_transaction

SHOWN_REFERENCES = 5


@dataclass(frozen=True, slots=True)
class DryRunResult:
    """Result of a dry run.

    resumes: whether the run exists. found: references read. new: images that would be added. first: the first
    references, at most 5.
    """

    run: str
    resumes: bool
    found: int
    new: int
    first: tuple[ImageReference, ...]


def dry_run_enqueue(
    engine: Engine, request: RunRequest, references: Iterator[ImageReference], on_progress: OnEnqueueProgress
) -> DryRunResult:
    """Read the whole source and compare it with the ledger.

    Keeps the image ids that the source gives in memory, to detect one that is used for two images. Raises SourceError
    or RunError, as `enqueue` does.
    """
    with read_transaction(engine) as connection:
        run = find_resumable_run(connection, request)
    first: tuple[ImageReference, ...] = ()
    uri_by_id: dict[str, str] = {}
    found = new = 0
    while batch := list(islice(references, BATCH_IMAGES)):
        unique = index_by_image_id(batch)
        repeated = {image_id for image_id, reference in unique.items() if _is_repeated(reference, uri_by_id)}
        with read_transaction(engine) as connection:
            known = read_known_images(connection, list(unique), None if run is None else run.run_id)
        check_uri_conflicts(unique, known)
        first = first or tuple(batch[:SHOWN_REFERENCES])
        found += len(batch)
        new += sum(
            1
            for image_id in unique
            if image_id not in repeated and not (image_id in known and known[image_id].is_in_run)
        )
        on_progress(found, new)
    return DryRunResult(request.name, run is not None, found, new, first)


def _is_repeated(reference: ImageReference, uri_by_id: dict[str, str]) -> bool:
    if reference.image_id is None:
        return False
    is_repeated = reference.image_id in uri_by_id
    other = uri_by_id.setdefault(reference.image_id, reference.uri)
    if other != reference.uri:
        raise SourceError(f"image_id {reference.image_id!r} is used for both {other} and {reference.uri}")
    return is_repeated
