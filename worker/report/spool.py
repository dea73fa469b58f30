"""What a report tells, put aside in a database of its own: one state of the run, in order, in flat memory.

The ledger is read once and quickly. Writing a report may take an hour, and a transaction that is open so long would
keep the ledger's server from cleaning up.
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any, Self

from worker.contract.vocabulary import Eye, Status
from worker.report.rows import COLUMNS, Row

_ROW = (
    "rank, image_id, uri, sha256, patient_id, eye, reference_grade, status, grade, flags, error_code, error_detail,"
    " saliency, p_ge0, p_ge1, p_ge2, p_ge3, p_ge4"
)
_STATUSES = (
    Status.GRADED, Status.UNGRADABLE, Status.FAILED, Status.QUARANTINED, Status.QUEUED, Status.CANCELLED,
)  # fmt: skip
"""In the order of a report."""

# An eye's worst photograph has the lowest rank, for every graded one stands before every other.
_ARRANGE = f"""
CREATE TABLE images (rank INTEGER PRIMARY KEY, {", ".join(COLUMNS)});
INSERT INTO images ({", ".join(COLUMNS)}) SELECT {", ".join(COLUMNS)} FROM loaded
    ORDER BY CASE status {" ".join(f"WHEN '{word}' THEN {place}" for place, word in enumerate(_STATUSES))} END,
    grade DESC, p_ge4 DESC, p_ge3 DESC, p_ge2 DESC, p_ge1 DESC, image_id;
DROP TABLE loaded;
CREATE TABLE eyes AS
    SELECT coalesce('patient ' || nullif(patient_id, ''), 'image ' || image_id) AS who, eye, min(rank) AS worst,
        count(*) AS photographs
    FROM images WHERE status NOT IN ('queued', 'cancelled') GROUP BY who, eye;
CREATE TABLE patients (number INTEGER PRIMARY KEY, who, grade, attention);
INSERT INTO patients (who, grade, attention)
    SELECT who, max(grade), max(grade IS NULL) FROM eyes JOIN images ON rank = worst GROUP BY who
    ORDER BY CASE WHEN max(grade) >= 2 THEN 0 WHEN max(grade IS NULL) THEN 1 ELSE 2 END, min(worst);
CREATE INDEX eyes_who ON eyes (who);
"""  # noqa: S608 - names of our own


class Spool:
    """Tables `images` by rank, `eyes` by their worst image, `patients` by number, the most urgent first, from 1."""

    def __init__(self, pages: Iterable[list[dict[str, Any]]]) -> None:
        # Without a name SQLite makes a file that has none either, and goes with the process.
        self._connection = sqlite3.connect("", isolation_level=None)
        try:
            self._connection.executescript("PRAGMA journal_mode = OFF; PRAGMA temp_store = FILE")
            self._connection.execute(f"CREATE TABLE loaded ({', '.join(COLUMNS)})")
            marks = ", ".join(f":{name}" for name in COLUMNS)
            for page in pages:
                self._connection.execute("BEGIN")
                self._connection.executemany(f"INSERT INTO loaded VALUES ({marks})", page)  # noqa: S608 - names of our own
                self._connection.execute("COMMIT")
            self._connection.executescript(_ARRANGE)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Forget it all."""
        self._connection.close()

    def ask(self, query: str, *values: object) -> Iterator[tuple[Any, ...]]:
        """The rows of a query, as they are fetched."""
        yield from self._connection.execute(query, values)

    def count(self, query: str, *values: object) -> int:
        """The one number of a query."""
        return int(self._connection.execute(query, values).fetchone()[0])

    def rows(self, first: int, last: int) -> list[Row]:
        """The images of these ranks, both included."""
        found = self.ask(f"SELECT {_ROW} FROM images WHERE rank BETWEEN ? AND ? ORDER BY rank", first, last)  # noqa: S608 - names of our own
        return [_row(*values) for values in found]

    def fingerprint(self, *also: object) -> str:
        """The same for the same content, whoever writes it."""
        digest = hashlib.sha256(repr(also).encode())
        for values in self.ask(f"SELECT {_ROW} FROM images ORDER BY rank"):  # noqa: S608 - names of our own
            digest.update(repr(values).encode())
        return digest.hexdigest()[:16]


def _row(*values: Any) -> Row:
    *plain, saliency, p_ge0, p_ge1, p_ge2, p_ge3, p_ge4 = values
    rank, image_id, uri, sha256, patient_id, eye, reference, status, grade, flags, code, detail = plain
    return Row(
        rank=rank,
        image_id=image_id,
        uri=uri,
        sha256=sha256,
        patient_id=patient_id or None,
        eye=Eye(eye),
        reference=reference,
        status=Status(status),
        grade=grade,
        flags=flags or "",
        error_code=code,
        error_detail=detail,
        saliency=saliency,
        outputs=None if grade is None else (p_ge0, p_ge1, p_ge2, p_ge3, p_ge4),
    )
