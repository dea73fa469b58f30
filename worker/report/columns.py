"""One character an image, for the filters of the page: a run of 100,000 images takes half a megabyte."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO

from worker.contract.vocabulary import Grade, Status
from worker.report.rows import Row
from worker.report.spool import Spool

NEAR = 0.1
"""An output so near to its threshold might as well be on the other side."""
OUTCOMES = {
    Status.UNGRADABLE: "u",
    Status.FAILED: "f",
    Status.QUARANTINED: "q",
    Status.QUEUED: "w",
    Status.CANCELLED: "c",
}
NONE = "-"
FIRST_CODE, MOST_CODES = ord("0"), 70

Thresholds = Sequence[float]


@dataclass(frozen=True, slots=True)
class Columns:
    """Of all images in the order of their ranks. `code`: a character from `0` on for each of `codes`, `-` for none."""

    outcome: str
    eye: str
    reference: str
    unsure: str
    code: str
    codes: tuple[str, ...]


def read_columns(spool: Spool, thresholds: Thresholds) -> Columns:
    """The columns of the spooled images. thresholds: one per cumulative output."""
    codes = tuple(
        code
        for (code,) in spool.ask(
            "SELECT error_code FROM images WHERE error_code IS NOT NULL AND status <> ? GROUP BY error_code"
            " ORDER BY count(*) DESC, error_code LIMIT ?",
            Status.QUEUED,
            MOST_CODES,
        )
    )
    places = {code: chr(FIRST_CODE + number) for number, code in enumerate(codes)}
    found = [StringIO() for _ in range(5)]
    for status, grade, eye, reference, flags, code, *outputs in spool.ask(
        "SELECT status, grade, eye, reference_grade, flags, error_code, p_ge0, p_ge1, p_ge2, p_ge3, p_ge4 FROM images"
        " ORDER BY rank"
    ):
        unsure = grade is not None and (bool(flags) or is_near(outputs, thresholds))
        signs = (
            OUTCOMES[Status(status)] if grade is None else str(grade),
            eye[0],
            NONE if reference is None else str(reference),
            "1" if unsure else "0",
            places.get(code, NONE),
        )
        for column, sign in zip(found, signs, strict=True):
            column.write(sign)
    outcomes, eyes, references, unsures, reasons = (column.getvalue() for column in found)
    return Columns(outcomes, eyes, references, unsures, reasons, codes)


def is_unsure(row: Row, thresholds: Thresholds) -> bool:
    """Whether a graded image asks to be looked at twice: flagged, or an output within NEAR of its threshold."""
    return row.outputs is not None and (bool(row.flags) or is_near(row.outputs, thresholds))


def is_near(outputs: Sequence[float], thresholds: Thresholds) -> bool:
    """Whether an output that tells two grades apart is within NEAR of its threshold."""
    return any(
        abs(output - threshold) < NEAR
        for output, threshold in zip(outputs[Grade.MILD :], thresholds[Grade.MILD :], strict=True)
    )
