"""Pick the kind of source that an operator's text names."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from producer.sources.bucket import list_images
from producer.sources.folder import find_images
from producer.sources.stack import read_stack
from worker.core.errors import ImageReferenceError, SourceError
from worker.core.manifests.admission import AdmissionPolicy, admit_references
from worker.core.manifests.canonical_uri import SCHEME, canonical_path
from worker.core.manifests.image_reference import ImageReference, OnWarning
from worker.core.manifests.labels import attach_labels
from worker.core.manifests.manifest import read_manifest
from worker.core.manifests.rows import ROW_SUFFIXES
from worker.core.storage.storage import Storage
from worker.core.uris import parse_file_uri


@dataclass(frozen=True, slots=True)
class Source:
    """`text`: its name for the ledger, paths absolute. `references` streams and can be read once."""

    text: str
    references: Iterator[ImageReference]


def open_source(
    text: str, *, storage: Storage, admission: AdmissionPolicy, on_warning: OnWarning, labels: Path | None = None
) -> Source:
    """A folder, `s3://BUCKET/PREFIX`, a `.csv` or `.jsonl` manifest, or an `.npy` stack.

    Raises SourceError at once for a source that does not exist or is of no known kind, and for labels with a manifest;
    what is wrong inside, or may not come in by `admission`, is raised while the references are read.
    """
    source = _open(text, storage, admission, on_warning, labels)
    return Source(source.text, admit_references(source.references, admission))


def _open(
    text: str, storage: Storage, admission: AdmissionPolicy, on_warning: OnWarning, labels: Path | None
) -> Source:
    if text.startswith("s3://"):
        return Source(text, _labelled(list_images(text, storage.sources, on_warning), labels, on_warning, admission))
    path = canonical_path(_local_path(text))
    suffix = path.suffix.lower()
    if path.is_dir():
        return Source(str(path), _labelled(find_images(path, on_warning), labels, on_warning, admission))
    if not path.is_file():
        raise SourceError(f"no file or folder at {path}")
    if suffix == ".npy":
        return Source(str(path), read_stack(path, labels, admission.allowed_columns))
    if suffix not in ROW_SUFFIXES:
        raise SourceError(f"{path} is no folder, no manifest ({', '.join(ROW_SUFFIXES)}) and no .npy stack")
    if labels is not None:
        raise SourceError(f"{path} is a manifest: put grades into its column reference_grade, not into {labels}")
    return Source(str(path), read_manifest(path, on_warning, admission))


def _labelled(
    references: Iterator[ImageReference], labels: Path | None, on_warning: OnWarning, admission: AdmissionPolicy
) -> Iterator[ImageReference]:
    return references if labels is None else attach_labels(references, labels, on_warning, admission.allowed_columns)


def _local_path(text: str) -> Path:
    if text.startswith("file:"):
        try:
            return parse_file_uri(text)
        except ImageReferenceError as error:
            raise SourceError(error.detail) from error
    scheme = SCHEME.match(text)
    if scheme and text[scheme.end() :].startswith("//"):
        raise SourceError(f"{text!r}: the scheme {scheme[1]!r} is neither file nor s3")
    return Path(text)
