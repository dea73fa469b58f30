"""Clinical labels shared by export, report and console: ICDR grades, eyes, outcomes, notes on flagged results."""

from worker.core.vocabulary import Eye, Flag, Grade

GRADE_LABELS = {
    Grade.NO_DR: "No DR",
    Grade.MILD: "Mild NPDR",
    Grade.MODERATE: "Moderate NPDR",
    Grade.SEVERE: "Severe NPDR",
    Grade.PROLIFERATIVE: "PDR",
}
"""Grades of the International Clinical Diabetic Retinopathy (ICDR) severity scale."""
EYE_LABELS = {
    Eye.RIGHT: "Right eye (OD)",
    Eye.LEFT: "Left eye (OS)",
    Eye.UNKNOWN: "Eye unknown",
}
FLAG_NOTES = {
    Flag.NO_OUTPUT_PASSED: "No model score reached its threshold.",
    Flag.NOT_MONOTONE: "The model scores do not decrease with severity: review this image.",
    Flag.UNFAMILIAR: "The image is unlike those that the model has learned from: review this image.",
    Flag.NO_EVIDENCE: "The saliency map is empty, nothing in the image supports the grade: review this image.",
}


def format_grade(grade: int | None) -> str:
    """Return number and label of a grade, such as `2 Moderate NPDR`; `ungradable` for None."""
    return "ungradable" if grade is None else f"{grade} {GRADE_LABELS[Grade(grade)]}"


def format_awaiting_reading(model_grade: int | None) -> str:
    """Describe the outcome of an image whose review is unfinished. model_grade: None if the model gave no grade."""
    return f"Awaiting reading (model: {format_grade(model_grade)})"
