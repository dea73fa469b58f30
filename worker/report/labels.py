"""Clinical labels shared by the report and the console: ICDR grades, eyes, and notes on flagged results."""

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
    Flag.NO_EVIDENCE: "The saliency map is empty, nothing in the image supports the grade: review this image.",
}
