"""Read the images of a run for its report, in pages of the ledger."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, RowMapping, select

from worker.core.clinical_labels import format_awaiting_reading, format_ungraded
from worker.core.image_name import name_below
from worker.core.predictions import Evidence
from worker.core.vocabulary import REFERABLE_FROM, Eye, ReviewState, Status
from worker.ledger.database import read_transaction
from worker.ledger.final_grades import DISCLOSED_STATES, ReviewDecision, read_decisions, with_final_grades
from worker.ledger.review_schema import decisions
from worker.ledger.schema import OUTPUTS, gradings, images

PAGE_ROWS = 5000
COLUMNS = (
    "image_id", "uri", "file", "sha256", "content_sha256", "patient_id", "eye", "reference_grade", "status", "grade",
    "flags", "error_code", "error_detail", "saliency", "evidence", "evidence_scale", "settled_at", *OUTPUTS, "review",
    "final_grade", "decisions", "worst_decision",
)  # fmt: skip
UNDER_REVIEW = "being read"
"""Status of an image whose review is in progress. The value is part of `summary.json`."""
_COMPUTED = ("file", "review", "final_grade", "decisions", "worst_decision")
_STORED = tuple(name for name in COLUMNS if name not in _COMPUTED)


@dataclass(frozen=True, slots=True)
class ReaderDecision:
    """Decision of one reader. `grade` is None for ungradable; `at` is in UTC, to the minute; `findings` are words."""

    reader: str
    kind: str
    grade: int | None
    at: str
    findings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One image of a run. `rank` is its position in the report, from 1, most urgent first.

    file: path below the source of the run.
    sha256: from the manifest. content_sha256: of the bytes that were graded, None if unknown. status, grade: final
    ones. Those of the readers if they have decided, UNDER_REVIEW and None while the review is in progress, else those
    of the model. urgency: the final grade, or while the review is in progress the worst grade that the model or a
    reader has given so far; it decides whether the image counts as referable. outputs: the model's P(grade >= 0) to
    P(grade >= 4), None if it gave no grade. evidence: None if a version without it graded the image.
    """

    rank: int
    image_id: str
    uri: str
    file: str
    sha256: str | None
    content_sha256: str | None
    patient_id: str | None
    eye: Eye
    reference: int | None
    status: str
    grade: int | None
    model_status: str
    model_grade: int | None
    review: ReviewState
    decided: tuple[ReaderDecision, ...]
    urgency: int | None
    flags: str
    error_code: str | None
    error_detail: str | None
    saliency: bytes | None
    evidence: Evidence | None
    outputs: tuple[float, ...] | None

    @property
    def is_referable(self) -> bool:
        """Whether the image is referable by the model or by its readers."""
        return any(grade is not None and grade >= REFERABLE_FROM for grade in (self.urgency, self.model_grade))

    @property
    def strength(self) -> float:
        """Strength of the saliency's maximum, in [0, 1], see `Evidence`."""
        return 1.0 if self.evidence is None else self.evidence.strength

    @property
    def pending(self) -> str | None:
        """Description of the outcome while the review is in progress, otherwise None."""
        return format_awaiting_reading(self.model_grade) if self.status == UNDER_REVIEW else None


def describe_ungraded(status: str, code: str | None) -> str:
    """Describe the outcome of an image without a grade, with reason and next step if it is ungradable."""
    return "Awaiting reading" if status == UNDER_REVIEW else format_ungraded(Status(status), code)


def read_report_pages(engine: Engine, run_id: int, run_name: str, source: str) -> Iterator[list[dict[str, Any]]]:
    """Yield rows with the keys COLUMNS, ordered by image id; `settled_at` is a Unix time. Raises DatabaseError.

    source: that of the run, for the column `file`.
    """
    stored = [images.c[name] if name in images.c and name != "image_id" else gradings.c[name] for name in _STORED]
    query = with_final_grades(
        select(*stored)
        .join(images, images.c.image_id == gradings.c.image_id)
        .where(gradings.c.run_id == run_id)
        .order_by(gradings.c.image_id)
        .limit(PAGE_ROWS)
    )
    after = ""
    while True:
        with read_transaction(engine) as connection:
            page = connection.execute(query.where(gradings.c.image_id > after)).mappings().all()
            if not page:
                return
            on_page = decisions.c.image_id.between(page[0]["image_id"], page[-1]["image_id"])
            decided = read_decisions(connection, run_id, run_name, on_page)
        yield [_load_row(row, source, decided.get(row["image_id"], ())) for row in page]
        after = page[-1]["image_id"]


def parse_decisions(text: str | None) -> tuple[ReaderDecision, ...]:
    """Parse the column `decisions`."""
    decided = json.loads(text or "[]")
    return tuple(ReaderDecision(reader, kind, grade, at, tuple(words)) for reader, kind, grade, at, words in decided)


def _load_row(row: RowMapping, source: str, decided: Sequence[ReviewDecision]) -> dict[str, Any]:
    disclosed = decided if row["review"] in DISCLOSED_STATES else ()
    return {name: row[name] for name in (*_STORED, "review", "final_grade")} | {
        "file": name_below(row["uri"], source),
        "settled_at": None if row["settled_at"] is None else row["settled_at"].timestamp(),
        "decisions": _encode_decisions(disclosed) if disclosed else None,
        "worst_decision": max((one.grade for one in disclosed if one.grade is not None), default=None),
    }


def _encode_decisions(decided: Sequence[ReviewDecision]) -> str:
    """Encode reader, kind, grade, time and findings. Reasons are free text and a report is passed on: left out."""
    return json.dumps(
        [[one.reader, one.kind, one.grade, f"{one.at:%Y-%m-%d %H:%M} UTC", one.findings] for one in decided]
    )
