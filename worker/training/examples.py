"""Read a manifest of local photographs, usually with reference grades."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from worker.core.errors import SourceError
from worker.core.manifests.admission import admit_references, make_admission_policy
from worker.core.manifests.manifest import read_manifest
from worker.core.settings import Settings
from worker.core.uris import parse_file_uri, uri_scheme
from worker.core.vocabulary import Grade


@dataclass(frozen=True, slots=True)
class Example:
    """A photograph for training or validation."""

    image_id: str
    path: Path
    grade: Grade | None
    """The reference grade; None without one."""
    patient_id: str | None
    source: str | None = None
    """The site or camera; None if the manifest does not name it."""


def read_examples(
    manifest: Path, settings: Settings, on_warning: Callable[[str], None], *, with_ungraded: bool = False
) -> list[Example]:
    """Read the photographs of a manifest that have a reference grade; the number of others is passed to `on_warning`.

    with_ungraded: return the others, too.
    Raises SourceError, with file, line and column, for a manifest that `fundus enqueue` would reject, for a duplicate
    image, for an image that is not a local file, and if fewer than two grades occur.
    """
    admission = make_admission_policy(settings)
    examples: dict[str, Example] = {}
    ungraded = 0
    for reference in admit_references(read_manifest(manifest, on_warning, admission), admission):
        if reference.reference_grade is None:
            ungraded += 1
            if not with_ungraded:
                continue
        if uri_scheme(reference.uri) != "file":
            raise SourceError(
                f"{manifest}: {reference.uri} is not a local file; copy the photographs to this machine first"
            )
        example = Example(
            reference.identity,
            parse_file_uri(reference.uri),
            reference.reference_grade,
            reference.patient_id,
            reference.source,
        )
        if examples.setdefault(example.image_id, example) is not example:
            raise SourceError(f"{manifest}: image {example.image_id} is listed twice")
    if ungraded and not with_ungraded:
        on_warning(f"{ungraded:,} photographs have no reference_grade and are ignored")
    grades = [example.grade for example in examples.values() if example.grade is not None]
    if len(set(grades)) < 2:
        raise SourceError(
            f"{manifest}: {len(grades)} photographs with reference grades; at least two different grades are needed"
        )
    return list(examples.values())


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file. Raises SourceError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror or error}") from error
