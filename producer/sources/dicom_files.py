"""Make references of the DICOM files in a source: found by content, described by their headers.

Only a header is read, by pure Python and from a limited number of bytes; pixels are left to the workers' decoding
processes, which check the header again.
"""

import re
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from urllib.parse import unquote

from worker.core.dicom.file_header import IncompleteHeaderError, read_file_header
from worker.core.dicom.instance_header import InstanceHeader, Metadata, read_instance_header
from worker.core.dicom.instance_reference import make_instance_reference, require_patient_key
from worker.core.dicom.selection import check_instance_kind
from worker.core.dicom.transfer_syntaxes import is_dicom
from worker.core.errors import ImageError, NotAPhotographError, SourceError
from worker.core.manifests.admission import AdmissionPolicy
from worker.core.manifests.image_reference import ImageReference, OnWarning, is_image_name
from worker.core.storage.source_reader import SourceReader
from worker.core.uris import uri_scheme
from worker.core.vocabulary import Eye

HEAD_BYTES = 2**16
"""Read of each file that may be DICOM. Headers of photographs have a few thousand bytes."""
MAX_HEADER_BYTES = 2**24
"""Read of a file whose header is longer: it may have pictures in private attributes."""
READERS = 16
"""Files whose beginnings are read at the same time."""
_NAME = re.compile(r"[^.].*\.(?:dcm|dicom|[0-9]+)|[^.]+", re.IGNORECASE)
"""Names that DICOM files have: with their suffix, without any, or a UID, whose last part looks like a suffix."""


def may_be_dicom(name: str) -> bool:
    """Whether a file of this name is opened to see if it is DICOM."""
    return _NAME.fullmatch(name) is not None and not is_image_name(name)


class DicomFiles:
    """Describes the DICOM files of one source and counts those that are no photographs, by code."""

    def __init__(self, reader: SourceReader, policy: AdmissionPolicy) -> None:
        self._reader = reader
        self._policy = policy
        self._refused: Counter[str] = Counter()

    def select(self, reference: ImageReference) -> ImageReference | None:
        """Return the reference of a listed file that is a DICOM photograph; None for any other file.

        A malformed DICOM file keeps its reference: the worker says what is wrong with it. Raises SettingsError without
        FUNDUS_PATIENT_KEY, SourceError without pydicom, and StorageError.
        """
        try:
            found = self._read(reference.uri)
            if found is None:
                return None
            check_instance_kind(found[0], self._policy.dicom_admissions)
        except NotAPhotographError as error:
            self._refused[error.code] += 1
            return None
        except ImageError as error:
            return _keep_malformed(reference, error)
        return replace(make_instance_reference(reference.uri, *found), modified_at=reference.modified_at)

    def select_all(self, candidates: Iterator[ImageReference]) -> Iterator[ImageReference | None]:
        """Yield the result of `select` for each reference, in order; READERS files are read at a time.

        Files with an image suffix are not read, and keep their references.
        """
        waiting: deque[ImageReference | Future[ImageReference | None] | None] = deque()
        with ThreadPoolExecutor(READERS, thread_name_prefix="dicom") as pool:
            waiting.extend(self._begin(one, pool) for one in islice(candidates, READERS))
            while waiting:
                first = waiting.popleft()
                yield first.result() if isinstance(first, Future) else first
                waiting.extend(self._begin(one, pool) for one in islice(candidates, 1))

    def describe(self, reference: ImageReference) -> ImageReference:
        """Return the reference of a manifest's row with what the header adds: a row's own values stay.

        Raises SourceError for a row whose eye differs from the header's, and as `select` does.
        """
        if not may_be_dicom(_name(reference.uri)):
            return reference
        try:
            found = self._read(reference.uri)
        except ImageError as error:
            return _keep_malformed(reference, error)
        if found is None:
            return reference
        header, _ = found
        if Eye.UNKNOWN not in (header.eye, reference.eye) and header.eye is not reference.eye:
            raise SourceError(
                f"{reference.uri}: the manifest has the {reference.eye} eye, the DICOM header the {header.eye} one; "
                "fix: correct the manifest, or the header in the PACS"
            )
        made = make_instance_reference(reference.uri, *found)
        return replace(
            reference,
            image_id=reference.image_id or made.image_id,
            patient_id=reference.patient_id or made.patient_id,
            eye=made.eye if reference.eye is Eye.UNKNOWN else reference.eye,
            source=reference.source or made.source,
            study_date=made.study_date,
            etag=made.etag,
        )

    def report(self, place: str, on_warning: OnWarning) -> None:
        """Pass the numbers of instances that are no photographs to `on_warning`."""
        if self._refused:
            counts = ", ".join(f"{count} {code}" for code, count in sorted(self._refused.items()))
            on_warning(f"DICOM files that are no photographs to grade, ignored {place}: {counts}")

    def _begin(
        self, reference: ImageReference, pool: ThreadPoolExecutor
    ) -> ImageReference | Future[ImageReference | None] | None:
        name = _name(reference.uri)
        if is_image_name(name):
            return reference
        return pool.submit(self.select, reference) if may_be_dicom(name) else None

    def _read(self, uri: str) -> tuple[InstanceHeader, Metadata] | None:
        if uri_scheme(uri) == "dicomweb":
            require_patient_key(self._policy)
            metadata = self._reader.read_instance_metadata(uri)
            return read_instance_header(metadata), metadata
        head = self._reader.read_beginning(uri, HEAD_BYTES)
        if not is_dicom(head):
            return None
        require_patient_key(self._policy)
        try:
            metadata = read_file_header(head, is_whole=len(head) < HEAD_BYTES)
        except IncompleteHeaderError:
            metadata = read_file_header(self._reader.read_beginning(uri, MAX_HEADER_BYTES))
        return read_instance_header(metadata), metadata


def _keep_malformed(reference: ImageReference, error: ImageError) -> ImageReference:
    if error.code == "dicom_not_installed":
        raise SourceError(f"{reference.uri}: {error.detail}", code=error.code) from error
    return reference


def _name(uri: str) -> str:
    return unquote(uri.rpartition("/")[2])
