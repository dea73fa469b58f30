"""Columns for the filters of the page, one character per image: half a megabyte for 100,000 images."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO

from worker.core.vocabulary import REFERABLE_FROM, REVIEW_FLAGS, REVIEW_MARGIN, ReviewState, Status
from worker.report.rows import UNDER_REVIEW, ReportRow
from worker.report.snapshot import Snapshot

OUTCOMES = {
    UNDER_REVIEW: "r",
    Status.UNGRADABLE: "u",
    Status.FAILED: "f",
    Status.QUARANTINED: "q",
    Status.QUEUED: "w",
    Status.CANCELLED: "c",
}
REVIEW_CODES = {
    ReviewState.UNREAD: "-",
    ReviewState.HALF_READ: "h",
    ReviewState.DISPUTED: "d",
    ReviewState.READ: "s",
    ReviewState.ARBITRATED: "s",
}
CHANGED = "c"
NONE = "-"
FIRST_CODE = ord("0")

Thresholds = Sequence[float]


@dataclass(frozen=True, slots=True)
class FilterColumns:
    """One character per image, ordered by rank.

    outcome: the final grade, `r` under review, `R` under review and referable until decided, or the letter of a status.
    code: character `0` + i for the i-th of `codes`, `-` if the image has no error code. reading: `h` reviewed by one of
    two readers, `d` disputed, `s` final grade equal to the model's, `c` changed, `-` not reviewed; empty if no
    image has been reviewed.
    """

    outcome: str
    eye: str
    reference: str
    unsure: str
    code: str
    reading: str
    codes: tuple[str, ...]


def read_filter_columns(snapshot: Snapshot, thresholds: Thresholds) -> FilterColumns:
    """Build the columns of the images in a snapshot. thresholds: one per cumulative output."""
    codes = tuple(
        code
        for (code,) in snapshot.query(
            "SELECT error_code FROM images WHERE error_code IS NOT NULL AND status <> ? GROUP BY error_code"
            " ORDER BY count(*) DESC, error_code",
            Status.QUEUED,
        )
    )
    places = {code: chr(FIRST_CODE + number) for number, code in enumerate(codes)}
    found = [StringIO() for _ in range(6)]
    for status, grade, model_grade, urgency, review, eye, reference, flags, code, *outputs in snapshot.query(
        "SELECT status, grade, model_grade, urgency, review, eye, reference_grade, flags, error_code,"
        " p_ge0, p_ge1, p_ge2, p_ge3, p_ge4 FROM images ORDER BY rank"
    ):
        decided = REVIEW_CODES[review] == REVIEW_CODES[ReviewState.READ]
        unsure = model_grade is not None and not decided and is_doubtful(model_grade, flags or "", outputs, thresholds)
        characters = (
            _encode_outcome(status, grade, urgency),
            eye[0],
            NONE if reference is None else str(reference),
            "1" if unsure else "0",
            places.get(code, NONE),
            CHANGED if decided and grade != model_grade else REVIEW_CODES[review],
        )
        for column, character in zip(found, characters, strict=True):
            column.write(character)
    outcomes, eyes, references, unsures, reasons, reviews = (column.getvalue() for column in found)
    return FilterColumns(outcomes, eyes, references, unsures, reasons, reviews if reviews.strip(NONE) else "", codes)


def _encode_outcome(status: str, grade: int | None, urgency: int | None) -> str:
    if grade is not None:
        return str(grade)
    letter = OUTCOMES[status]
    return letter.upper() if status == UNDER_REVIEW and (urgency or 0) >= REFERABLE_FROM else letter


def is_low_confidence(row: ReportRow, thresholds: Thresholds) -> bool:
    """Whether an image asks for a review and has no final one."""
    decided = REVIEW_CODES[row.review] == REVIEW_CODES[ReviewState.READ]
    if row.outputs is None or row.model_grade is None or decided:
        return False
    return is_doubtful(row.model_grade, row.flags, row.outputs, thresholds)


def is_doubtful(grade: int, flags: str, outputs: Sequence[float], thresholds: Thresholds) -> bool:
    """Whether a model's grade asks for a review: a flag, or almost referable. flags: separated by commas."""
    almost = thresholds[REFERABLE_FROM] - outputs[REFERABLE_FROM] < REVIEW_MARGIN
    return (grade < REFERABLE_FROM and almost) or not REVIEW_FLAGS.isdisjoint(flags.split(","))
