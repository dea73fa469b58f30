"""Read a run as its report tells of it: one row per image, in flat pages of the ledger."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, RowMapping, select

from worker.core.vocabulary import Eye, ReviewState
from worker.ledger.database import read_transaction
from worker.ledger.final_grades import ReviewDecision, read_decisions, with_final_grades
from worker.ledger.review_schema import decisions
from worker.ledger.schema import OUTPUTS, gradings, images

PAGE_ROWS = 5000
COLUMNS = (
    "image_id", "uri", "sha256", "patient_id", "eye", "reference_grade", "status", "grade", "flags", "error_code",
    "error_detail", "saliency", "settled_at", *OUTPUTS, "review", "final_grade", "decisions", "worst_decision",
)  # fmt: skip
UNDER_REVIEW = "being read"
"""Stands where a status would: people have begun to read the image, and have not finished."""
DISCLOSED = (ReviewState.DISPUTED, ReviewState.READ, ReviewState.ARBITRATED)
"""Until both have read, a report must not tell the second reader what the first one said."""
_STORED = tuple(name for name in COLUMNS if name not in ("review", "final_grade", "decisions", "worst_decision"))


@dataclass(frozen=True, slots=True)
class ReaderDecision:
    """What one person decided; `grade` None: it cannot be graded. `at`: to the minute, in UTC."""

    reader: str
    kind: str
    grade: int | None
    at: str


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One image of a run. `rank` is its place in the report, from 1, the most urgent first.

    `status` and `grade` are final: the people's where they have decided, UNDER_REVIEW and None while they have not
    finished, else the model's. `outputs` are the model's P(grade >= 0) to P(grade >= 4), None where it gave no grade.
    """

    rank: int
    image_id: str
    uri: str
    sha256: str | None
    patient_id: str | None
    eye: Eye
    reference: int | None
    status: str
    grade: int | None
    model_status: str
    model_grade: int | None
    review: ReviewState
    decided: tuple[ReaderDecision, ...]
    flags: str
    error_code: str | None
    error_detail: str | None
    saliency: bytes | None
    outputs: tuple[float, ...] | None

    @property
    def file(self) -> str:
        """The last part of the reference."""
        return self.uri.rpartition("/")[2]


def read_report_pages(engine: Engine, run_id: int, run_name: str) -> Iterator[list[dict[str, Any]]]:
    """Rows of COLUMNS in the order of the image ids, `settled_at` in seconds since 1970. Raises DatabaseError."""
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
            here = decisions.c.image_id.between(page[0]["image_id"], page[-1]["image_id"])
            decided = read_decisions(connection, run_id, run_name, here)
        yield [_load_row(row, decided.get(row["image_id"], ())) for row in page]
        after = page[-1]["image_id"]


def parse_decisions(text: str | None) -> tuple[ReaderDecision, ...]:
    """Back from the column `decisions`."""
    return tuple(ReaderDecision(*one) for one in json.loads(text or "[]"))


def _load_row(row: RowMapping, decided: Sequence[ReviewDecision]) -> dict[str, Any]:
    told = decided if row["review"] in DISCLOSED else ()
    return {name: row[name] for name in (*_STORED, "review", "final_grade")} | {
        "settled_at": None if row["settled_at"] is None else row["settled_at"].timestamp(),
        "decisions": _encode_decisions(told) if told else None,
        "worst_decision": max((one.grade for one in told if one.grade is not None), default=None),
    }


def _encode_decisions(decided: Sequence[ReviewDecision]) -> str:
    """Who, as what, what and when. Reasons stay in the console: they are free text, and a report is passed on."""
    return json.dumps([[one.reader, one.kind, one.grade, f"{one.at:%Y-%m-%d %H:%M} UTC"] for one in decided])
