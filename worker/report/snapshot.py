"""Snapshot of a run in a temporary SQLite database: images, eyes and patients, ordered for the report.

The ledger is read once, in short transactions. Writing a report may take an hour; a transaction of that length would
keep PostgreSQL from vacuuming. Memory use does not depend on the size of the run.
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any, Self

from worker.core.predictions import Evidence
from worker.core.vocabulary import REFERABLE_FROM, Eye, ReviewState, Status
from worker.ledger.final_grades import DECIDED_STATES, PENDING_STATES
from worker.report.rows import COLUMNS, UNDER_REVIEW, ReportRow, parse_decisions

BY_READER = "ungradable_by_reader"
"""Stored as the error code of an image that readers marked ungradable."""
_ROW = (
    "rank, image_id, uri, file, sha256, content_sha256, patient_id, eye, reference_grade, status, grade, model_status,"
    " model_grade, review, decisions, urgency, flags, error_code, error_detail, saliency, evidence, evidence_scale,"
    " p_ge0, p_ge1, p_ge2, p_ge3, p_ge4"
)
_STATUSES = (
    Status.GRADED, UNDER_REVIEW, Status.UNGRADABLE, Status.FAILED, Status.QUARANTINED, Status.QUEUED, Status.CANCELLED,
)  # fmt: skip
"""In the order of the report."""
_IMAGE_COLUMNS = (*COLUMNS, "model_status", "model_grade", "urgency")

# An image under review is ranked by the worst grade given so far, so that an unfinished review does not move it down
# the list. The worst image of an eye is the first that exists of: a referable one, one that waits for a reader, one
# that waits for the model, a graded one. A grade that is not referable is the patient's only if every eye has one.
_BUILD_TABLES = f"""
ALTER TABLE loaded ADD COLUMN model_status;
ALTER TABLE loaded ADD COLUMN model_grade;
ALTER TABLE loaded ADD COLUMN urgency;
UPDATE loaded SET model_status = status, model_grade = grade, urgency = grade;
UPDATE loaded SET status = '{UNDER_REVIEW}', grade = NULL, error_code = NULL, error_detail = NULL,
    urgency = nullif(max(coalesce(grade, -1), coalesce(worst_decision, -1)), -1)
    WHERE review IN {tuple(map(str, PENDING_STATES))};
UPDATE loaded SET grade = final_grade, urgency = final_grade, status = iif(final_grade IS NULL, 'ungradable', 'graded'),
    error_code = iif(final_grade IS NULL, '{BY_READER}', NULL), error_detail = NULL
    WHERE review IN {tuple(map(str, DECIDED_STATES))};
CREATE TABLE images (rank INTEGER PRIMARY KEY, {", ".join(_IMAGE_COLUMNS)});
INSERT INTO images ({", ".join(_IMAGE_COLUMNS)}) SELECT {", ".join(_IMAGE_COLUMNS)} FROM loaded
    ORDER BY iif(urgency IS NOT NULL, 0,
        CASE status {" ".join(f"WHEN '{word}' THEN {place}" for place, word in enumerate(_STATUSES))} END),
    urgency DESC, p_ge4 DESC, p_ge3 DESC, p_ge2 DESC, p_ge1 DESC, file, image_id;
DROP TABLE loaded;
CREATE TABLE eyes AS
    SELECT coalesce('patient ' || nullif(patient_id, ''), 'image ' || image_id) AS patient_key, eye,
        coalesce(
            min(iif(grade >= {REFERABLE_FROM:d}, rank, NULL)), min(iif(status = '{UNDER_REVIEW}', rank, NULL)),
            min(iif(status = 'queued', rank, NULL)), min(iif(grade IS NULL, NULL, rank)), min(rank)
        ) AS worst,
        min(rank) AS first, max(urgency) AS urgency, max(status = '{UNDER_REVIEW}') AS under_review,
        max(status = 'queued') AS queued, max(iif(status = '{UNDER_REVIEW}', model_grade, NULL)) AS awaited,
        sum(status NOT IN ('queued', 'cancelled')) AS photographs
    FROM images GROUP BY patient_key, eye;
CREATE TABLE patients (
    number INTEGER PRIMARY KEY, patient_key, grade, referable, attention, under_review, queued, awaited
);
INSERT INTO patients (patient_key, grade, referable, attention, under_review, queued, awaited)
    SELECT patient_key,
        iif(max(grade) >= {REFERABLE_FROM:d} OR NOT max(grade IS NULL OR under_review OR queued), max(grade), NULL),
        coalesce(max(eyes.urgency), 0) >= {REFERABLE_FROM:d}, max(grade IS NULL AND NOT under_review AND NOT queued),
        max(under_review), max(queued), max(awaited)
    FROM eyes JOIN images ON rank = worst GROUP BY patient_key HAVING sum(photographs) > 0
    ORDER BY CASE WHEN max(eyes.urgency) >= {REFERABLE_FROM:d} THEN 0
        WHEN max(grade IS NULL OR under_review OR queued) THEN 1 ELSE 2 END,
    min(first);
CREATE INDEX eyes_patient_key ON eyes (patient_key);
"""  # noqa: S608 - constants of this module


class Snapshot:
    """Tables `images` (by rank), `eyes` (by worst image) and `patients` (by number), most urgent first, from 1."""

    def __init__(self, pages: Iterable[list[dict[str, Any]]]) -> None:
        # An empty name makes a temporary file that SQLite deletes when the connection closes.
        self._connection = sqlite3.connect("", isolation_level=None)
        try:
            self._connection.executescript("PRAGMA journal_mode = OFF; PRAGMA temp_store = FILE")
            self._connection.execute(f"CREATE TABLE loaded ({', '.join(COLUMNS)})")
            marks = ", ".join(f":{name}" for name in COLUMNS)
            for page in pages:
                self._connection.execute("BEGIN")
                self._connection.executemany(f"INSERT INTO loaded VALUES ({marks})", page)  # noqa: S608 - constants of this module
                self._connection.execute("COMMIT")
            self._connection.executescript(_BUILD_TABLES)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Delete the snapshot."""
        self._connection.close()

    def query(self, statement: str, *values: object) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a statement."""
        yield from self._connection.execute(statement, values)

    def count(self, statement: str, *values: object) -> int:
        """Return the single number that a statement selects."""
        return int(self._connection.execute(statement, values).fetchone()[0])

    def rows(self, first: int, last: int) -> list[ReportRow]:
        """Return the images with these ranks, both included."""
        found = self.query(f"SELECT {_ROW} FROM images WHERE rank BETWEEN ? AND ? ORDER BY rank", first, last)  # noqa: S608 - constants of this module
        return [_row(*values) for values in found]

    def fingerprint(self, *also: object) -> str:
        """Return a hash of the content and of `also`; equal content has an equal fingerprint."""
        digest = hashlib.sha256(repr(also).encode())
        for values in self.query(f"SELECT {_ROW} FROM images ORDER BY rank"):  # noqa: S608 - constants of this module
            digest.update(repr(values).encode())
        return digest.hexdigest()[:16]


def _row(*values: Any) -> ReportRow:
    *plain, saliency, logits, scale, p_ge0, p_ge1, p_ge2, p_ge3, p_ge4 = values
    rank, image_id, uri, file, sha256, content_sha256, patient_id, eye, reference, *outcome, flags, code, detail = plain
    status, grade, model_status, model_grade, review, decisions, urgency = outcome
    return ReportRow(
        rank=rank,
        image_id=image_id,
        uri=uri,
        file=file,
        sha256=sha256,
        content_sha256=content_sha256,
        patient_id=patient_id or None,
        eye=Eye(eye),
        reference=reference,
        status=status,
        grade=grade,
        model_status=model_status,
        model_grade=model_grade,
        review=ReviewState(review),
        decided=parse_decisions(decisions),
        urgency=urgency,
        flags=flags or "",
        error_code=code,
        error_detail=detail,
        saliency=saliency,
        evidence=None if logits is None else Evidence(logits, scale),
        outputs=None if model_grade is None else (p_ge0, p_ge1, p_ge2, p_ge3, p_ge4),
    )
