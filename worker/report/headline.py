"""What a report says first: one sentence, and how the images divide by outcome."""

from dataclasses import dataclass

from worker.core.clinical_labels import GRADE_LABELS
from worker.core.vocabulary import Grade, Status
from worker.report.rows import UNDER_REVIEW
from worker.report.summary import Summary

BAR_WIDTH = 1000
HEAT_LEVELS = 5
_OTHERS = (
    (UNDER_REVIEW, "awaiting", "awaiting reading", "r"),
    (Status.UNGRADABLE, "ungradable", "ungradable", "u"),
    (Status.FAILED, "failed", "not graded: failed", "f"),
    (Status.QUARANTINED, "failed", "not graded: set aside", "q"),
    (Status.QUEUED, "waiting", "waiting to be graded", "w"),
    (Status.CANCELLED, "waiting", "cancelled", "c"),
)
"""Status, style, words and the filter of the page for images without a grade."""


@dataclass(frozen=True, slots=True)
class OutcomeShare:
    """A part of the stacked bar. start, width: in thousandths. filter: value of the page's filter of outcomes."""

    style: str
    label: str
    filter: str
    count: int
    start: float
    width: float


def format_headline(summary: Summary, everyone: int) -> str:
    """Say who has to be seen, such as `8 of 30 patients to refer, 1 urgently; 2 to photograph again`.

    everyone: number of patients, where an image without a patient id counts as one. Without any ids, images are
    counted.
    """
    if not summary.images:
        return "No images in this run"
    if not everyone:
        return f"No image of {summary.images:,} is graded yet"
    noun = f"{'patient' if summary.patients else 'image'}{'' if everyone == 1 else 's'}"
    count = f"{summary.to_refer:,}" if summary.to_refer else "None"
    parts = [f"{count} of {everyone:,} {noun} to refer"]
    if summary.urgent:
        parts[0] += f", {summary.urgent:,} urgently"
    if summary.to_photograph_again:
        parts.append(f"{summary.to_photograph_again:,} to photograph again or examine")
    if summary.to_read:
        parts.append(f"{summary.to_read:,} to be read")
    if waiting := summary.by_status.get(Status.QUEUED, 0):
        parts.append(f"{waiting:,} {'image' if waiting == 1 else 'images'} still to be graded")
    return "; ".join(parts)


def share_outcomes(summary: Summary) -> list[OutcomeShare]:
    """Return the parts of the stacked bar: grades 4 to 0, then images without a grade; none with a count of 0."""
    found = [
        (f"grade-{grade:d}", f"{grade:d} {GRADE_LABELS[grade]}", str(int(grade)), summary.by_grade[grade])
        for grade in reversed(Grade)
    ] + [
        (style, label, code, summary.by_status.get(status, 0)) for status, style, label, code in _OTHERS
    ]  # fmt: skip
    shares: list[OutcomeShare] = []
    start = 0
    for style, label, code, count in found:
        if count:
            place, width = (round(BAR_WIDTH * one / summary.images, 2) for one in (start, count))
            shares.append(OutcomeShare(style, label, code, count, place, width))
            start += count
    return shares


def find_heat(summary: Summary, reference: int, count: int) -> int:
    """Return the level, 0 to HEAT_LEVELS, of a cell of the confusion matrix: its share of the reference grade."""
    total = sum(images for (known, _), images in summary.confusion.items() if known == reference)
    return -(-HEAT_LEVELS * count // total) if count else 0
