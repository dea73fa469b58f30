"""The four verbs of DICOMweb: search, retrieve, metadata and store (DICOM PS3.18, chapters 10.4 to 10.6)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from worker.core.dicomweb.connection import Answer, PacsConnection, Query
from worker.core.dicomweb.multipart import make_body, read_only_part
from worker.core.errors import ImageMissingError, ImageTooLargeError, ObjectRefusedError, StorageError
from worker.core.retry import retry_service_errors
from worker.core.uris import UID_PATTERN, InstancePath

Dataset = Mapping[str, Any]
"""A data set of the DICOM JSON model: attributes by tag, as in `00100020`."""

JSON = "application/dicom+json"
# Without `transfer-syntax=*`, the standard has the server decode each photograph to 36 MB: 2 a second, not 665.
WHOLE_INSTANCE = 'multipart/related; type="application/dicom"; transfer-syntax=*'
PAGE_SIZE = 200
"""The most that every known server returns at a time."""
MAX_JSON_BYTES = 32 * 2**20
ENVELOPE_BYTES = 2**16
"""Allowance for what surrounds a file in a multipart body."""
ABSENT_STATUSES = {400, 404, 410}
"""Orthanc 1.10 answers 400 for a study that it does not have."""
STORE_STATUSES = {200, 202, 409}

STUDY_UID, SERIES_UID, INSTANCE_UID = "0020000D", "0020000E", "00080018"
_REFERENCED_SEQUENCE, _FAILED_SEQUENCE = "00081199", "00081198"
_REFERENCED_UID, _FAILURE_REASON = "00081155", "00081197"
_UID_OF = {"studies": STUDY_UID, "series": SERIES_UID, "instances": INSTANCE_UID}


@dataclass(frozen=True, slots=True)
class StoreResult:
    """What became of stored instances.

    status: 200 all stored, 202 some, 409 none. stored: SOP Instance UIDs. failed: failure reason (0008,1197), or None,
    by SOP Instance UID. A PACS may name neither, so ask with `search` which instances it has.
    """

    status: int
    stored: frozenset[str]
    failed: Mapping[str, int | None]


class DicomwebClient:
    """Client of one PACS; thread-safe. Every method raises StorageError if the PACS fails."""

    def __init__(self, connection: PacsConnection, *, search_patience_s: float = 0.0) -> None:
        """search_patience_s: how long a page of a search is asked for again while the PACS fails, in seconds."""
        self._connection = connection
        self._search_patience_s = search_patience_s
        self.host = connection.host

    def search(
        self,
        level: Literal["studies", "series", "instances"],
        query: Query,
        *,
        fields: Sequence[str] = (),
        study: str | None = None,
        series: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Dataset]:
        """Yield what matches, page by page, each study, series or instance once (QIDO-RS).

        query: attributes and values to match, see PS3.18, 8.3.4. fields: tags of more attributes to return. study,
        series: search within them; then an unknown one has no matches. limit: the most results.

        Raises StorageError, also for a PACS that does not page.
        """
        path = "/".join([*(["studies", study] if study else []), *(["series", series] if series else []), level])
        # A comma-separated list is standard, too, but Orthanc 1.10 ignores it.
        fixed = [*query, *(("includefield", field) for field in fields)]
        size = PAGE_SIZE if limit is None else min(limit, PAGE_SIZE)
        known = set[str]()
        read = 0
        while page := self._search_page(path, [*fixed, ("limit", str(size)), ("offset", str(read))]):
            read += len(page)
            new = {uid: found for found in page if (uid := self._read_uid(found, level)) not in known}
            # Not ended by a short page: a server may return fewer than asked for.
            if not new:
                if len(page) >= size:
                    raise StorageError(
                        f"{self.host} returns the same page of {path.rpartition('/')[2]} again and again"
                    )
                return
            for uid, found in new.items():
                known.add(uid)
                yield found
                if len(known) == limit:
                    return

    def retrieve(self, instance: InstancePath, *, max_bytes: int) -> bytes:
        """Return the DICOM file of an instance in the transfer syntax in which it is stored (WADO-RS).

        max_bytes: limit on the file, which ends the transfer. Raises ImageMissingError if the PACS has no such
        instance, ImageTooLargeError, ObjectRefusedError if it refuses this one, and StorageError.
        """
        limit = max_bytes + ENVELOPE_BYTES
        answer = self._connection.request("GET", instance.path, accept=WHOLE_INSTANCE, max_bytes=limit)
        if not answer.is_success:
            raise self._explain_refusal(answer, instance)
        try:
            file = read_only_part(answer.content_type, answer.body)
        except ValueError as error:
            raise StorageError(f"{self.host}: {error}") from error
        if len(file) > max_bytes:
            raise ImageTooLargeError(f"{len(file)} bytes, the limit is {max_bytes}")
        return file

    def probe(self, instance: InstancePath) -> None:
        """Check that the PACS serves an instance, without reading its pixels. Raises as `retrieve` does."""
        self.metadata(instance)

    def metadata(self, instance: InstancePath) -> Dataset:
        """Return the attributes of an instance without its pixels. Raises as `retrieve` does."""
        answer = self._request_json("GET", f"{instance.path}/metadata")
        if not answer.is_success:
            raise self._explain_refusal(answer, instance)
        found = self._parse_datasets(answer)
        if len(found) != 1:
            raise StorageError(f"{self.host} returns {len(found)} data sets for one instance")
        return found[0]

    def store(self, files: Sequence[bytes], *, study: str | None = None) -> StoreResult:
        """Store DICOM files, whose study must be `study` if it is given (STOW-RS).

        A timeout or an interrupted answer is a StorageError, and the files may have been stored: ask with `search`.
        Raises ObjectRefusedError if the PACS refuses the request.
        """
        path = "studies" if study is None else f"studies/{study}"
        answer = self._request_json("POST", path, content=make_body(files))
        if answer.status not in STORE_STATUSES:
            raise ObjectRefusedError(f"{self.host} refuses to store {len(files)} instances: HTTP {answer.status}")
        document = _parse_object(answer.body)
        stored = (read_text(item, _REFERENCED_UID) for item in _items(document, _REFERENCED_SEQUENCE))
        failed = {
            read_text(item, _REFERENCED_UID) or "": _read_number(item, _FAILURE_REASON)
            for item in _items(document, _FAILED_SEQUENCE)
        }
        return StoreResult(answer.status, frozenset(uid for uid in stored if uid), failed)

    def close(self) -> None:
        """Close the idle connections."""
        self._connection.close()

    def _request_json(
        self, method: str, path: str, *, query: Query = (), content: tuple[str, bytes] | None = None
    ) -> Answer:
        try:
            return self._connection.request(
                method, path, accept=JSON, query=query, content=content, max_bytes=MAX_JSON_BYTES
            )
        except ImageTooLargeError as error:
            raise StorageError(f"{self.host}: the answer has {error.detail}") from error

    def _read_uid(self, found: Dataset, level: str) -> str:
        uid = read_text(found, _UID_OF[level])
        if uid is None or not UID_PATTERN.fullmatch(uid):
            raise StorageError(f"{self.host}: a result of the search for {level} has no valid UID")
        return uid

    def _search_page(self, path: str, query: Query) -> list[Dataset]:
        ask = partial(self._ask_page, path, query)
        return retry_service_errors(ask, timeout_s=self._search_patience_s) if self._search_patience_s else ask()

    def _ask_page(self, path: str, query: Query) -> list[Dataset]:
        answer = self._request_json("GET", path, query=query)
        if answer.status == 204 or ("/" in path and answer.status == 404):
            return []
        if not answer.is_success:
            raise StorageError(f"{self.host} refuses a search of {path.rpartition('/')[2]}: HTTP {answer.status}")
        return self._parse_datasets(answer)

    def _explain_refusal(self, answer: Answer, instance: InstancePath) -> ImageMissingError | StorageError:
        """Return the error for an instance that was not served.

        It is missing only if the PACS answers a search without finding it: a wrong address or a gateway whose PACS is
        away may answer 404 to everything, and that must not fail a night's images.
        """
        refusal = f"{self.host} does not serve {instance.instance}: HTTP {answer.status}"
        if answer.status not in ABSENT_STATUSES:
            return ObjectRefusedError(refusal)
        studies = self.search("studies", [("StudyInstanceUID", instance.study)], limit=1)
        if any(read_text(found, STUDY_UID) == instance.study for found in studies):
            query = [("SOPInstanceUID", instance.instance)]
            found = self.search("instances", query, study=instance.study, series=instance.series)
            if any(read_text(one, INSTANCE_UID) == instance.instance for one in found):
                return ObjectRefusedError(f"{refusal}, although a search finds it")
        return ImageMissingError(f"{self.host} has no instance {instance.instance}")

    def _parse_datasets(self, answer: Answer) -> list[Dataset]:
        document = self._parse_json(answer)
        if not isinstance(document, list) or not all(isinstance(item, dict) for item in document):
            raise StorageError(f"{self.host}: the answer is not a list of data sets")
        return document

    def _parse_json(self, answer: Answer) -> Any:
        try:
            return json.loads(answer.body)
        except (ValueError, RecursionError) as error:
            raise StorageError(f"{self.host}: the answer is not JSON ({len(answer.body)} bytes)") from error


def read_text(dataset: Dataset, tag: str) -> str | None:
    """Return the first value of an attribute, stripped; None if it is absent, empty or neither text nor number."""
    values = read_texts(dataset, tag)
    return values[0] if values else None


def read_texts(dataset: Dataset, tag: str) -> list[str]:
    """Return the values of an attribute, stripped, without those that are empty or neither text nor number."""
    attribute = dataset.get(tag)
    values = attribute.get("Value") if isinstance(attribute, dict) else None
    texts = [str(value).strip() for value in values if isinstance(value, str | int)] if isinstance(values, list) else []
    return [text for text in texts if text]


def _parse_object(body: bytes) -> Dataset:
    """Return the answer to a store; an empty one for XML or no body, as its status says enough."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _items(dataset: Dataset, tag: str) -> list[Dataset]:
    """Return the items of a sequence; none for anything else."""
    attribute = dataset.get(tag)
    items = attribute.get("Value") if isinstance(attribute, dict) else None
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _read_number(dataset: Dataset, tag: str) -> int | None:
    text = read_text(dataset, tag) or ""
    return int(text) if text.isascii() and text.isdigit() else None
