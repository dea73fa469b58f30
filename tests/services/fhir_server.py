"""FHIR R4 server for tests: transactions with conditional requests over HTTP, stored in SQLite with all versions.

As with real servers, identifiers are not unique: two transactions that search at the same time may both create. Faults
are chosen by `Faults`.
"""

import base64
import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import fhirkit

USER, PASSWORD, TOKEN = "fundus", "test-password", "test-token"
ROOT = "/fhir"
Document = dict[str, Any]


class RefusedError(Exception):
    """A status and the index of the entry that it is about; None for the whole transaction."""

    def __init__(self, status: int, code: str, entry: int | None = None) -> None:
        super().__init__(status, code, entry)
        self.status, self.code, self.entry = status, code, entry


@dataclass
class Faults:
    """What the next transactions meet; each fault is used up by one of them.

    before: status and headers instead of storing. lost: store it and close the connection without an answer. partial:
    status of the last entry within an answer of 200, with nothing stored. body: answer of 200 with this text.
    """

    before: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    lost: int = 0
    partial: list[int] = field(default_factory=list)
    body: list[str] = field(default_factory=list)


class FhirServer:
    """The server and its storage."""

    def __init__(self, file: Path) -> None:
        self.port = 0
        self.version = "4.0.1"
        self.faults = Faults()
        self.requests: list[tuple[str, str | None]] = []
        """Method with path, and Authorization, of each request."""
        self.conflicts = 0
        """How often two transactions with the same DiagnosticReport were in work at a time."""
        self.in_work: set[str] = set()
        self.transactions = 0
        self._file = file
        self._guard = threading.Lock()
        with self._connect() as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute(
                "CREATE TABLE versions (kind, id, version INTEGER, resource, PRIMARY KEY (kind, id, version))"
            )

    @property
    def url(self) -> str:
        """What FUNDUS_FHIR_URL names."""
        return f"http://127.0.0.1:{self.port}{ROOT}"

    def read(self, kind: str) -> list[Document]:
        """Return the current resources of a kind, in the order of their creation."""
        with self._connect() as database:
            rows = database.execute(
                "SELECT resource FROM versions AS last WHERE kind = ? AND version ="
                " (SELECT max(version) FROM versions WHERE id = last.id) ORDER BY"
                " (SELECT min(rowid) FROM versions WHERE id = last.id)",
                (kind,),
            ).fetchall()
        return [json.loads(resource) for (resource,) in rows]

    def count_versions(self, kind: str) -> int:
        """Return the number of versions of all resources of a kind."""
        with self._connect() as database:
            return int(database.execute("SELECT count(*) FROM versions WHERE kind = ?", (kind,)).fetchone()[0])

    def count(self, kind: str, query: str) -> int:
        """Return the number of resources that match a search by identifier."""
        with self._connect() as database:
            return len(self._search(database, kind, query))

    def add(self, resource: Document) -> None:
        """Store a resource without conditions."""
        with self._connect() as database:
            self._store(database, resource, str(uuid4()))

    def transact(self, bundle: Document) -> Document:
        """Store a transaction, all or nothing, and return the response. Raises RefusedError."""
        if issues := fhirkit.validate(json.dumps(bundle)):
            raise RefusedError(422, "invalid", _index_in(str(issues[0])))
        entries = bundle["entry"]
        key = next(_identifier(e["resource"]) for e in entries if e["resource"]["resourceType"] == "DiagnosticReport")
        with self._guard:
            self.transactions += 1
            self.conflicts += key in self.in_work
            self.in_work.add(key)
        try:
            with self._connect() as database:
                # The search comes before the lock, as on servers without unique identifiers.
                plans = [self._plan(database, entry["request"], index) for index, entry in enumerate(entries)]
                if self.faults.partial:
                    statuses = ["200 OK"] * (len(entries) - 1) + [str(self.faults.partial.pop())]
                else:
                    database.execute("BEGIN IMMEDIATE")
                    statuses = self._write(database, entries, plans)
                    database.execute("COMMIT")
        finally:
            with self._guard:
                self.in_work.discard(key)
        return {
            "resourceType": "Bundle",
            "type": "transaction-response",
            "entry": [{"response": {"status": status}} for status in statuses],
        }

    def _plan(self, database: sqlite3.Connection, request: Document, index: int) -> tuple[str, str, bool]:
        """Return kind and id of an entry, and whether it is to be written."""
        kind, _, query = request["url"].partition("?")
        is_creation = request["method"] == "POST"
        found = self._search(database, kind, request.get("ifNoneExist", "") if is_creation else query)
        if len(found) > 1:
            raise RefusedError(412, "multiple-matches", index)
        if not found:
            return kind, str(uuid4()), True
        return kind, found[0], not is_creation

    def _write(
        self, database: sqlite3.Connection, entries: list[Document], plans: list[tuple[str, str, bool]]
    ) -> list[str]:
        places = {entry["fullUrl"]: f"{kind}/{id_}" for entry, (kind, id_, _) in zip(entries, plans, strict=True)}
        statuses = []
        for entry, (_, id_, is_written) in zip(entries, plans, strict=True):
            text = json.dumps(entry["resource"])
            for url, place in places.items():
                text = text.replace(f'"{url}"', f'"{place}"')
            is_new = is_written and self._store(database, json.loads(text), id_)
            statuses.append("201 Created" if is_new else "200 OK")
        return statuses

    def _store(self, database: sqlite3.Connection, resource: Document, id_: str) -> bool:
        """Add a version unless the content is that of the last one; return whether the resource is new."""
        kind = resource["resourceType"]
        last = database.execute(
            "SELECT version, resource FROM versions WHERE kind = ? AND id = ? ORDER BY version DESC", (kind, id_)
        ).fetchone()
        text = json.dumps(resource | {"id": id_}, sort_keys=True)
        if last is None or last[1] != text:
            row = (kind, id_, 1 if last is None else last[0] + 1, text)
            database.execute("INSERT INTO versions VALUES (?, ?, ?, ?)", row)
        return last is None

    def _search(self, database: sqlite3.Connection, kind: str, query: str) -> list[str]:
        wanted = parse_qs(query, strict_parsing=True)["identifier"][0]
        rows = database.execute("SELECT DISTINCT id, resource FROM versions WHERE kind = ?", (kind,)).fetchall()
        return list(dict.fromkeys(id_ for id_, text in rows if _identifier(json.loads(text)) == wanted))

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._file, timeout=30, isolation_level=None)


def _identifier(resource: Document) -> str:
    identifier = resource["identifier"][0]
    return f"{identifier['system']}|{identifier['value']}"


def _index_in(issue: str) -> int | None:
    _, found, rest = issue.partition("entry[")
    return int(rest.partition("]")[0]) if found else None


@contextmanager
def run_fhir_server(file: Path) -> Iterator[FhirServer]:
    """Run a server with this SQLite file on a free port until the block ends."""
    fhir = FhirServer(file)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path, _, query = self.path.removeprefix(f"{ROOT}/").partition("?")
            # As on many servers, without a sign-in.
            if path == "metadata":
                return self.answer(200, {"resourceType": "CapabilityStatement", "fhirVersion": fhir.version})
            if not self.is_signed_in():
                return self.answer(401, {})
            return self.answer(200, {"resourceType": "Bundle", "type": "searchset", "total": fhir.count(path, query)})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            fhir.requests.append((f"POST {self.path}", self.headers["Authorization"]))
            if not self.is_signed_in():
                return self.answer(401, {})
            if urlsplit(self.path).path != ROOT or self.headers["Content-Type"] != "application/fhir+json":
                return self.answer(404, {})
            if fhir.faults.before:
                status, headers = fhir.faults.before.pop(0)
                return self.answer(status, {}, **headers)
            if fhir.faults.body:
                return self.answer(200, fhir.faults.body.pop())
            try:
                answer = fhir.transact(json.loads(body))
            except RefusedError as error:
                place = "Bundle" if error.entry is None else f"Bundle.entry[{error.entry}].resource"
                # As servers do, the diagnostics quote the resource.
                issue = {"severity": "error", "code": error.code, "expression": [place], "diagnostics": body.decode()}
                return self.answer(error.status, {"resourceType": "OperationOutcome", "issue": [issue]})
            if fhir.faults.lost:
                fhir.faults.lost -= 1
                self.close_connection = True
                return None
            return self.answer(200, answer)

        def is_signed_in(self) -> bool:
            return self.headers["Authorization"] in (
                f"Bearer {TOKEN}",
                "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode(),
            )

        def answer(self, status: int, document: Document | str, **headers: str) -> None:
            body = (document if isinstance(document, str) else json.dumps(document)).encode()
            self.send_response(status)
            for name, value in {
                "Content-Type": "application/fhir+json",
                "Content-Length": str(len(body)),
                **headers,
            }.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            with suppress(BrokenPipeError):
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        fhir.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield fhir
        server.shutdown()
        thread.join()
