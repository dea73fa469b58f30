"""Clinical words shared by report, console, panels and export, so that one thing has one name everywhere."""

from worker.core.vocabulary import Eye, Finding, Flag, Grade, Status

GRADE_LABELS = {
    Grade.NO_DR: "No DR",
    Grade.MILD: "Mild NPDR",
    Grade.MODERATE: "Moderate NPDR",
    Grade.SEVERE: "Severe NPDR",
    Grade.PROLIFERATIVE: "PDR",
}
"""Grades of the International Clinical Diabetic Retinopathy (ICDR) severity scale."""
NOTHING_FOUND = "No referable DR found by the model"
"""What grade 0 of a model means: it rules nothing out, as a reader's grade 0 does."""
OUTPUT_LABELS = {
    Grade.MILD: "Mild NPDR or worse",
    Grade.MODERATE: "Moderate NPDR or worse (referable)",
    Grade.SEVERE: "Severe NPDR or worse",
    Grade.PROLIFERATIVE: "PDR",
}
"""What each model score is for, by the lowest grade."""
SCORE = "Model score"
THRESHOLD = "Threshold"
"""A grade is given if its score is above this."""
SALIENCY = "Areas that most influenced this result"
EYE_LABELS = {
    Eye.RIGHT: "Right eye (OD)",
    Eye.LEFT: "Left eye (OS)",
    Eye.UNKNOWN: "Eye unknown",
}
EYE_CODES = {Eye.RIGHT: "OD", Eye.LEFT: "OS", Eye.UNKNOWN: "eye unknown"}
UNGRADABLE_REASONS = {
    "no_field": "no round field of view, check that it is a fundus photograph",
    "field_cut_off": "field of view cut off, photograph again",
    "not_a_fundus": "unusual appearance, needs a human grader",
    "too_dark": "too dark, photograph again",
    "over_exposed": "overexposed, photograph again",
    "blurred": "blurred, photograph again or check for media opacity",
    "low_contrast": "low contrast, photograph again or check for media opacity",
    "ungradable_by_reader": "by a reader, photograph again or examine the patient",
}
"""Reason and next step by error code; the measured numbers are in the error's detail."""
STATUS_LABELS = {
    Status.QUEUED: "Waiting to be graded",
    Status.GRADED: "Graded",
    Status.UNGRADABLE: "Ungradable",
    Status.FAILED: "Not graded: file or worker failed",
    Status.QUARANTINED: "Not graded: set aside after crashes",
    Status.CANCELLED: "Not graded: cancelled",
}
FINDING_LABELS = {
    Finding.LASER_SCARS: "Laser scars",
    Finding.OTHER_DISEASE: "Other disease",
    Finding.MACULOPATHY: "Maculopathy",
    Finding.MEDIA_OPACITY: "Media opacity",
}
"""What readers report next to the grade."""
FLAG_NOTES = {
    Flag.NO_OUTPUT_PASSED: "No model score reached its threshold.",
    Flag.NOT_MONOTONE: "The model scores do not decrease with severity: review this image.",
    Flag.UNFAMILIAR: "The image is unlike those that the model has learned from: review this image.",
    Flag.NO_EVIDENCE: "The saliency map is empty, nothing in the image supports the grade: review this image.",
}


def format_grade(grade: int | None) -> str:
    """Return number and label of a grade that a reader gave, such as `2 Moderate NPDR`; `ungradable` for None."""
    return "ungradable" if grade is None else f"{grade} {GRADE_LABELS[Grade(grade)]}"


def format_model_grade(grade: int | None) -> str:
    """Return number and label of a model's grade: as `format_grade`, but `0 No referable DR found by the model`."""
    return f"{grade} {NOTHING_FOUND}" if grade == Grade.NO_DR else format_grade(grade)


def format_awaiting_reading(model_grade: int | None) -> str:
    """Describe the outcome of an image whose review is unfinished. model_grade: None if the model gave no grade."""
    return f"Awaiting reading (model: {format_grade(model_grade)})"


def format_full_scale(scale: float | None) -> str:
    """Describe the evidence that a map shows at full strength. scale: in logits; None without a scale of the model."""
    return "each image's own maximum" if scale is None else f"{scale:.3g} logits, the same in all images"


def format_ungraded(status: Status, code: str | None) -> str:
    """Describe the outcome of an image without a grade, such as `Ungradable: too dark, photograph again`."""
    label = STATUS_LABELS[status]
    reason = UNGRADABLE_REASONS.get(code or "") if status is Status.UNGRADABLE else None
    return label if reason is None else f"{label}: {reason}"
