"""What a report tells, put aside in a database of its own: one state of the run, in order, in flat memory.

The ledger is read once and quickly. Writing a report may take an hour, and a transaction that is open so long would
keep the ledger's server from cleaning up.
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any, Self

from worker.core.vocabulary import Eye, ReviewState, Status
from worker.report.rows import COLUMNS, UNDER_REVIEW, ReportRow, parse_decisions

BY_READER = "ungradable_by_reader"
"""Stands where an error's code would."""
_ROW = (
    "rank, image_id, uri, sha256, patient_id, eye, reference_grade, status, grade, model_status, model_grade, review,"
    " decisions, flags, error_code, error_detail, saliency, p_ge0, p_ge1, p_ge2, p_ge3, p_ge4"
)
_STATUSES = (
    Status.GRADED, UNDER_REVIEW, Status.UNGRADABLE, Status.FAILED, Status.QUARANTINED, Status.QUEUED, Status.CANCELLED,
)  # fmt: skip
"""In the order of a report."""
_MADE = (*COLUMNS, "model_status", "model_grade", "urgency")

# An eye's worst photograph has the lowest rank of those with a grade. What people still read stands where the worst
# of what was said of it puts it: that one of two has begun must not hide it.
_ARRANGE = f"""
ALTER TABLE loaded ADD COLUMN model_status;
ALTER TABLE loaded ADD COLUMN model_grade;
ALTER TABLE loaded ADD COLUMN urgency;
UPDATE loaded SET model_status = status, model_grade = grade, urgency = grade;
UPDATE loaded SET status = '{UNDER_REVIEW}', grade = NULL, error_code = NULL, error_detail = NULL,
    urgency = nullif(max(coalesce(grade, -1), coalesce(worst_decision, -1)), -1)
    WHERE review IN ('half_read', 'disputed');
UPDATE loaded SET grade = final_grade, urgency = final_grade, status = iif(final_grade IS NULL, 'ungradable', 'graded'),
    error_code = iif(final_grade IS NULL, '{BY_READER}', NULL), error_detail = NULL
    WHERE review IN ('read', 'arbitrated');
CREATE TABLE images (rank INTEGER PRIMARY KEY, {", ".join(_MADE)});
INSERT INTO images ({", ".join(_MADE)}) SELECT {", ".join(_MADE)} FROM loaded
    ORDER BY iif(urgency IS NOT NULL, 0,
        CASE status {" ".join(f"WHEN '{word}' THEN {place}" for place, word in enumerate(_STATUSES))} END),
    urgency DESC, p_ge4 DESC, p_ge3 DESC, p_ge2 DESC, p_ge1 DESC, image_id;
DROP TABLE loaded;
CREATE TABLE eyes AS
    SELECT coalesce('patient ' || nullif(patient_id, ''), 'image ' || image_id) AS who, eye,
        coalesce(min(iif(grade IS NULL, NULL, rank)), min(rank)) AS worst, min(rank) AS first,
        max(urgency) AS urgency, max(status = '{UNDER_REVIEW}') AS under_review, count(*) AS photographs
    FROM images WHERE status NOT IN ('queued', 'cancelled') GROUP BY who, eye;
CREATE TABLE patients (number INTEGER PRIMARY KEY, who, grade, attention, under_review);
INSERT INTO patients (who, grade, attention, under_review)
    SELECT who, max(grade), max(grade IS NULL AND NOT under_review), max(under_review)
    FROM eyes JOIN images ON rank = worst GROUP BY who
    ORDER BY CASE WHEN max(eyes.urgency) >= 2 THEN 0 WHEN max(grade IS NULL OR under_review) THEN 1 ELSE 2 END,
    min(first);
CREATE INDEX eyes_who ON eyes (who);
"""  # noqa: S608 - names of our own


class Snapshot:
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

    def rows(self, first: int, last: int) -> list[ReportRow]:
        """The images of these ranks, both included."""
        found = self.ask(f"SELECT {_ROW} FROM images WHERE rank BETWEEN ? AND ? ORDER BY rank", first, last)  # noqa: S608 - names of our own
        return [_row(*values) for values in found]

    def fingerprint(self, *also: object) -> str:
        """The same for the same content, whoever writes it."""
        digest = hashlib.sha256(repr(also).encode())
        for values in self.ask(f"SELECT {_ROW} FROM images ORDER BY rank"):  # noqa: S608 - names of our own
            digest.update(repr(values).encode())
        return digest.hexdigest()[:16]


def _row(*values: Any) -> ReportRow:
    *plain, saliency, p_ge0, p_ge1, p_ge2, p_ge3, p_ge4 = values
    rank, image_id, uri, sha256, patient_id, eye, reference, *outcome, flags, code, detail = plain
    status, grade, model_status, model_grade, review, decisions = outcome
    return ReportRow(
        rank=rank,
        image_id=image_id,
        uri=uri,
        sha256=sha256,
        patient_id=patient_id or None,
        eye=Eye(eye),
        reference=reference,
        status=status,
        grade=grade,
        model_status=model_status,
        model_grade=model_grade,
        review=ReviewState(review),
        decided=parse_decisions(decisions),
        flags=flags or "",
        error_code=code,
        error_detail=detail,
        saliency=saliency,
        outputs=None if model_grade is None else (p_ge0, p_ge1, p_ge2, p_ge3, p_ge4),
    )
