"""Open the source that a path or URI names."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from producer.sources.bucket import list_bucket_images
from producer.sources.dicom_files import DicomFiles
from producer.sources.folder import list_folder_images
from producer.sources.naming import NamingRules, read_names
from producer.sources.pacs import list_pacs_images, make_pacs_query
from producer.sources.pacs_query import parse_pacs_query
from producer.sources.stack import list_stack_entries
from worker.core.dicom.instance_reference import require_patient_key
from worker.core.errors import ImageReferenceError, SourceError
from worker.core.manifests.admission import AdmissionPolicy, admit_references
from worker.core.manifests.canonical_uri import SCHEME, canonical_path
from worker.core.manifests.image_reference import ImageReference, OnWarning
from worker.core.manifests.labels import attach_labels
from worker.core.manifests.manifest import read_manifest
from worker.core.manifests.rows import ROW_SUFFIXES
from worker.core.storage.storage import Storage
from worker.core.uris import parse_file_uri

NO_NAMING = NamingRules()


@dataclass(frozen=True, slots=True)
class Source:
    """An open source.

    location: absolute path or URI, as recorded in the ledger. references: a stream that can be read once.
    """

    location: str
    references: Iterator[ImageReference]


def open_source(
    location: str,
    *,
    storage: Storage,
    admission: AdmissionPolicy,
    on_warning: OnWarning,
    labels: Path | None = None,
    studies_since: date | None = None,
    naming: NamingRules = NO_NAMING,
) -> Source:
    """Open a folder, `s3://BUCKET/PREFIX`, `dicomweb://pacs?QUERY`, a `.csv` or `.jsonl` manifest, or an `.npy` stack.

    labels: CSV with reference grades; not for a manifest, which has its own column. studies_since: first study date of
    a PACS's photographs if the source names none. naming: what the paths of a folder or bucket say; others say it
    themselves. Raises SourceError for a missing source, one of an unsupported kind, labels with a manifest, and a
    manifest with an invalid row, which is read twice. Other invalid content and references that `admission` rejects
    raise SourceError while the references are read.
    """
    if location.startswith("dicomweb:"):
        source = _open_pacs(location, storage, admission, on_warning, labels, studies_since)
    else:
        source = _open(location, storage, admission, on_warning, labels, naming)
    return Source(source.location, admit_references(source.references, admission))


def _open(
    location: str,
    storage: Storage,
    admission: AdmissionPolicy,
    on_warning: OnWarning,
    labels: Path | None,
    naming: NamingRules,
) -> Source:
    dicom_files = DicomFiles(storage.sources, admission)
    if location.startswith("s3://"):
        references = list_bucket_images(location, storage.sources, on_warning, dicom_files)
        references = _named(references, location, naming, on_warning)
        return Source(location, _labelled(references, labels, on_warning, admission))
    path = canonical_path(_local_path(location))
    suffix = path.suffix.lower()
    if path.is_dir():
        references = list_folder_images(path, on_warning, dicom_files)
        references = _named(references, str(path), naming, on_warning)
        return Source(str(path), _labelled(references, labels, on_warning, admission))
    if not path.is_file():
        raise SourceError(f"no file or folder at {path}")
    if suffix == ".npy":
        return Source(str(path), list_stack_entries(path, labels, admission.allowed_columns))
    if suffix not in ROW_SUFFIXES:
        raise SourceError(f"{path} is not a folder, a manifest ({', '.join(ROW_SUFFIXES)}) or an .npy stack")
    if labels is not None:
        raise SourceError(f"{path} is a manifest: put the grades of {labels} into its column reference_grade")
    _read_through(path, admission)
    return Source(str(path), map(dicom_files.describe, read_manifest(path, on_warning, admission)))


def _read_through(manifest: Path, admission: AdmissionPolicy) -> None:
    """Raise SourceError for an invalid row anywhere in a manifest, so that it makes no run of its first rows."""
    deque(admit_references(read_manifest(manifest, lambda _: None, admission), admission), maxlen=0)


def _open_pacs(
    location: str,
    storage: Storage,
    admission: AdmissionPolicy,
    on_warning: OnWarning,
    labels: Path | None,
    studies_since: date | None,
) -> Source:
    if labels is not None:
        raise SourceError(f"{labels}: instances of a PACS have no file names; fix: use a manifest of exported files")
    require_patient_key(admission)
    admitted = admission.dicom_admissions
    query = make_pacs_query(location, studies_since=studies_since, admitted=admitted)
    # The location without the added dates: each night has others.
    named = parse_pacs_query(location).location
    return Source(named, list_pacs_images(storage.pacs, query, admitted=admitted, on_warning=on_warning))


def _named(
    references: Iterator[ImageReference], location: str, naming: NamingRules, on_warning: OnWarning
) -> Iterator[ImageReference]:
    return references if naming == NO_NAMING else read_names(references, location, naming, on_warning)


def _labelled(
    references: Iterator[ImageReference], labels: Path | None, on_warning: OnWarning, admission: AdmissionPolicy
) -> Iterator[ImageReference]:
    return references if labels is None else attach_labels(references, labels, on_warning, admission.allowed_columns)


def _local_path(location: str) -> Path:
    if location.startswith("file:"):
        try:
            return parse_file_uri(location)
        except ImageReferenceError as error:
            raise SourceError(error.detail) from error
    scheme = SCHEME.match(location)
    if scheme and location[scheme.end() :].startswith("//"):
        raise SourceError(f"{location!r}: unsupported scheme {scheme[1]!r}, use file, s3 or dicomweb")
    return Path(location)
