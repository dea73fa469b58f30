"""Read the manifest of a fit: photographs on this machine with reference grades."""

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
    """One photograph to learn from or to be judged by."""

    image_id: str
    path: Path
    grade: Grade
    patient_id: str | None


def read_examples(manifest: Path, settings: Settings, on_warning: Callable[[str], None]) -> list[Example]:
    """The manifest's photographs that have a reference grade; the others are counted and told to `on_warning`.

    Raises SourceError, naming file, line and column, as `fundus enqueue` does for the same manifest; for an image that
    is there twice, one that is no file, or where there are no two grades to tell apart.
    """
    admission = make_admission_policy(settings)
    examples: dict[str, Example] = {}
    without = 0
    for reference in admit_references(read_manifest(manifest, on_warning, admission), admission):
        if reference.reference_grade is None:
            without += 1
            continue
        if uri_scheme(reference.uri) != "file":
            raise SourceError(f"{manifest}: {reference.uri} is no file; copy the photographs to this machine first")
        example = Example(
            reference.identity, parse_file_uri(reference.uri), reference.reference_grade, reference.patient_id
        )
        if examples.setdefault(example.image_id, example) is not example:
            raise SourceError(f"{manifest}: image {example.image_id} is there twice")
    if without:
        on_warning(f"{without:,} photographs have no reference_grade and are left out")
    if len({example.grade for example in examples.values()}) < 2:
        raise SourceError(f"{manifest}: {len(examples)} photographs with reference grades, of two grades at least")
    return list(examples.values())


def hash_file(path: Path) -> str:
    """SHA-256. Raises SourceError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror or error}") from error
