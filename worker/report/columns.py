"""One character an image, for the filters of the page: a run of 100,000 images takes half a megabyte."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO

from worker.core.vocabulary import THRESHOLD_MARGIN, Grade, ReviewState, Status
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
READINGS = {
    ReviewState.UNREAD: "-",
    ReviewState.HALF_READ: "h",
    ReviewState.DISPUTED: "d",
    ReviewState.READ: "s",
    ReviewState.ARBITRATED: "s",
}
CHANGED = "c"
NONE = "-"
FIRST_CODE, MOST_CODES = ord("0"), 70

Thresholds = Sequence[float]


@dataclass(frozen=True, slots=True)
class FilterColumns:
    """Of all images in the order of their ranks. `code`: a character from `0` on for each of `codes`, `-` for none.

    `reading`: `h` read by one of two, `d` disputed, `s` the people say as the model, `c` otherwise, `-` unread; empty
    where nobody has read any.
    """

    outcome: str
    eye: str
    reference: str
    unsure: str
    code: str
    reading: str
    codes: tuple[str, ...]


def read_filter_columns(snapshot: Snapshot, thresholds: Thresholds) -> FilterColumns:
    """The columns of the snapshot images. thresholds: one per cumulative output."""
    codes = tuple(
        code
        for (code,) in snapshot.ask(
            "SELECT error_code FROM images WHERE error_code IS NOT NULL AND status <> ? GROUP BY error_code"
            " ORDER BY count(*) DESC, error_code LIMIT ?",
            Status.QUEUED,
            MOST_CODES,
        )
    )
    places = {code: chr(FIRST_CODE + number) for number, code in enumerate(codes)}
    found = [StringIO() for _ in range(6)]
    for status, grade, model_grade, review, eye, reference, flags, code, *outputs in snapshot.ask(
        "SELECT status, grade, model_grade, review, eye, reference_grade, flags, error_code,"
        " p_ge0, p_ge1, p_ge2, p_ge3, p_ge4 FROM images ORDER BY rank"
    ):
        decided = READINGS[review] == READINGS[ReviewState.READ]
        unsure = model_grade is not None and not decided and (bool(flags) or is_near_threshold(outputs, thresholds))
        signs = (
            OUTCOMES[status] if grade is None else str(grade),
            eye[0],
            NONE if reference is None else str(reference),
            "1" if unsure else "0",
            places.get(code, NONE),
            CHANGED if decided and grade != model_grade else READINGS[review],
        )
        for column, sign in zip(found, signs, strict=True):
            column.write(sign)
    outcomes, eyes, references, unsures, reasons, readings = (column.getvalue() for column in found)
    return FilterColumns(outcomes, eyes, references, unsures, reasons, readings if readings.strip(NONE) else "", codes)


def is_low_confidence(row: ReportRow, thresholds: Thresholds) -> bool:
    """Whether an image needs a review: not decided, and flagged or with an output within THRESHOLD_MARGIN."""
    decided = READINGS[row.review] == READINGS[ReviewState.READ]
    return row.outputs is not None and not decided and (bool(row.flags) or is_near_threshold(row.outputs, thresholds))


def is_near_threshold(outputs: Sequence[float], thresholds: Thresholds) -> bool:
    """Whether an output that tells two grades apart is within THRESHOLD_MARGIN of its threshold."""
    return any(
        abs(output - threshold) < THRESHOLD_MARGIN
        for output, threshold in zip(outputs[Grade.MILD :], thresholds[Grade.MILD :], strict=True)
    )
