"""Post transactions to a FHIR R4 server, and name the entry that it refuses.

Nothing of a server's diagnostics is repeated: they may quote the patient's id.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from worker.core.dicomweb.address import parse_dicomweb_address
from worker.core.dicomweb.connection import Answer, PacsConnection, Query
from worker.core.dicomweb.sign_in import make_authorisation, make_tls, read_sign_in
from worker.core.errors import (
    FhirConflictError,
    FhirRefusedError,
    FundusError,
    ImageTooLargeError,
    ObjectRefusedError,
    SettingsError,
    StorageError,
)
from worker.core.fhir.resources import Resource
from worker.core.settings import Settings

CONNECTIONS = 4
CONFLICT_ATTEMPTS = 4
MAX_ANSWER_BYTES = 8 * 2**20
MAX_VERSION_CHARS = 16
_JSON = "application/fhir+json"
_ENTRY = re.compile(r"Bundle\.entry\[(\d{1,4})\]")
_ISSUE = re.compile(r"[a-z-]{1,32}")
_ABSENT = {404, 405, 410}


class FhirClient:
    """Client of one FHIR server; thread-safe."""

    def __init__(self, connection: PacsConnection) -> None:
        self._connection = connection
        self.host = connection.host

    def post(self, bundle: Resource) -> None:
        """Post a transaction, of which the server stores all or nothing.

        After a lost answer, post it again: its requests are conditional. Conflicts with another client are tried again
        here. Raises FhirConflictError if they persist; FhirRefusedError, code `fhir_ambiguous` if several resources
        have the identifier of an entry; ObjectRefusedError without permission; StorageError if the server fails or
        confirms less than all entries.
        """
        for attempt in Retrying(
            retry=retry_if_exception_type(FhirConflictError),
            wait=wait_random_exponential(multiplier=0.1, max=2),
            stop=stop_after_attempt(CONFLICT_ATTEMPTS),
            reraise=True,
        ):
            with attempt:
                self._post(bundle)

    def read_version(self) -> str:
        """Return the FHIR version that the server names in its capability statement. Raises StorageError."""
        document = _parse(self._get("metadata"))
        version = document.get("fhirVersion")
        if document.get("resourceType") != "CapabilityStatement" or not isinstance(version, str):
            raise StorageError(f"{self.host}: `metadata` is no capability statement: no FHIR server is there")
        return version[:MAX_VERSION_CHARS]

    def search(self, kind: str, identifier: str) -> None:
        """Search resources of a kind by `SYSTEM|VALUE`, as conditional requests do. Raises StorageError."""
        document = _parse(self._get(kind, [("identifier", identifier), ("_count", "1")]))
        if document.get("resourceType") != "Bundle":
            raise StorageError(f"{self.host}: a search of {kind} gives no Bundle")

    def close(self) -> None:
        """Close the idle connections."""
        self._connection.close()

    def _get(self, path: str, query: Query = ()) -> Answer:
        try:
            answer = self._connection.request("GET", path, accept=_JSON, query=query, max_bytes=MAX_ANSWER_BYTES)
        except ImageTooLargeError as error:
            raise StorageError(f"{self.host}: answer of {error.detail}") from error
        if answer.status == 403:
            raise ObjectRefusedError(f"{self.host}: HTTP 403 for {path}: no permission")
        if not answer.is_success:
            raise StorageError(f"{self.host}: HTTP {answer.status} for {path}")
        return answer

    def _post(self, bundle: Resource) -> None:
        content = (_JSON, json.dumps(bundle, separators=(",", ":")).encode())
        try:
            answer = self._connection.request("POST", "", accept=_JSON, max_bytes=MAX_ANSWER_BYTES, content=content)
        except ImageTooLargeError as error:
            raise StorageError(f"{self.host}: answer of {error.detail}") from error
        document = _parse(answer)
        if not answer.is_success:
            raise self._explain(answer.status, _find_entry(document, bundle), _issue_code(document))
        statuses = _entry_statuses(document)
        if document.get("type") != "transaction-response" or len(statuses) != len(bundle["entry"]):
            raise StorageError(f"{self.host}: HTTP {answer.status} without a transaction-response for each entry")
        for index, status in enumerate(statuses):
            if not 200 <= status < 300:
                raise self._explain(status, _describe_entry(bundle, index), None)

    def _explain(self, status: int, entry: str, issue: str | None) -> FundusError:
        what = f"{self.host}: HTTP {status} for {entry}" + (f", issue {issue}" if issue else "")
        if status == 409:
            return FhirConflictError(what)
        if status == 412:
            return FhirRefusedError(
                f"{what}: several resources have its identifier; fix: delete the duplicates", code="fhir_ambiguous"
            )
        if status == 403:
            return ObjectRefusedError(f"{what}: no permission")
        if status in _ABSENT:
            return StorageError(f"{what}: FUNDUS_FHIR_URL is not the base of a FHIR server that accepts transactions")
        is_refusal = 400 <= status < 500 and status not in (401, 429)
        return FhirRefusedError(what) if is_refusal else StorageError(what)


def make_fhir_client(settings: Settings) -> FhirClient:
    """Make the client without any request. Raises SettingsError for missing or contradictory settings."""
    if settings.fhir_url is None:
        raise SettingsError("FUNDUS_FHIR_URL is not set; fix: name the FHIR server as https://HOST/fhir")
    address = parse_dicomweb_address(settings.fhir_url, "FUNDUS_FHIR")
    sign_in = read_sign_in(settings, "fhir")
    return FhirClient(
        PacsConnection(
            address,
            authorise=make_authorisation(sign_in),
            tls=make_tls(sign_in) if address.is_encrypted else None,
            connections=CONNECTIONS,
            timeout_s=settings.fhir_timeout_s,
            transfer_timeout_s=settings.transfer_timeout_s,
            settings=sign_in.prefix,
        )
    )


def _parse(answer: Answer) -> Resource:
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _entry_statuses(document: Resource) -> list[int]:
    """Return the status of each entry of a transaction-response; 0 for one without."""
    entries = document.get("entry")
    return [_read_status(entry) for entry in entries] if isinstance(entries, list) else []


def _read_status(entry: Any) -> int:
    response = entry.get("response") if isinstance(entry, dict) else None
    text = str(response.get("status", "")) if isinstance(response, dict) else ""
    return int(text[:3]) if text[:3].isascii() and text[:3].isdigit() else 0


def _find_entry(outcome: Resource, bundle: Resource) -> str:
    """Describe the entry that an OperationOutcome is about; the whole transaction if it names none."""
    for text in _issue_texts(outcome):
        if (match := _ENTRY.search(text)) and int(match[1]) < len(bundle["entry"]):
            return _describe_entry(bundle, int(match[1]))
    return "the transaction"


def _describe_entry(bundle: Resource, index: int) -> str:
    resource = bundle["entry"][index]["resource"]
    return f"entry {index}, {resource['resourceType']} {resource['identifier'][0]['value']}"


def _issue_texts(outcome: Resource) -> Iterator[str]:
    for issue in _issues(outcome):
        for name in ("expression", "location", "diagnostics"):
            values = issue.get(name)
            yield from (str(value) for value in (values if isinstance(values, list) else [values]))


def _issue_code(outcome: Resource) -> str | None:
    codes = [str(issue.get("code")) for issue in _issues(outcome)]
    return next((code for code in codes if _ISSUE.fullmatch(code)), None)


def _issues(outcome: Resource) -> list[Resource]:
    issues = outcome.get("issue")
    return [issue for issue in issues if isinstance(issue, dict)] if isinstance(issues, list) else []
