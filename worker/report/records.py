"""JSON records of images and patients, as the page's script reads them."""

from base64 import b64encode
from dataclasses import asdict
from typing import Any

from worker.core.clinical_labels import FINDING_LABELS
from worker.core.vocabulary import Finding, ReviewState
from worker.report.columns import Thresholds, is_low_confidence
from worker.report.patients import Patient
from worker.report.rows import ReportRow, describe_ungraded
from worker.report.thumbnails import Thumbnails

ThumbnailResult = Thumbnails | str | None
"""The thumbnails, the reason why rendering failed, or None if they were not requested."""


def build_image_record(row: ReportRow, thumbnails: ThumbnailResult, thresholds: Thresholds) -> dict[str, Any]:
    """Return the record of an image: JSON types only.

    `chances` are P(grade >= 1) to P(grade >= 4) in percent; `pictures` are the photograph and the tint, base64, the
    path of the contour lines, and whether the photograph is large; `reading` is the model result and the decisions,
    None if nobody has reviewed the image.
    """
    pictures = _build_pictures(thumbnails) if isinstance(thumbnails, Thumbnails) else None
    return {
        "rank": row.rank,
        "id": row.image_id,
        "file": row.file,
        "patient": row.patient_id,
        "eye": row.eye,
        "reference": row.reference,
        "label": describe_ungraded(row.status, row.error_code),
        "grade": row.grade,
        "byModel": row.review is ReviewState.UNREAD,
        "waits": row.pending,
        "chances": None if row.outputs is None else [round(100 * output, 1) for output in row.outputs[1:]],
        "unsure": is_low_confidence(row, thresholds),
        "flags": row.flags.split(",") if row.flags else [],
        "code": row.error_code if row.grade is None else None,
        "detail": row.error_detail if row.grade is None else None,
        "pictures": pictures,
        "missing": thumbnails if isinstance(thumbnails, str) else None,
        "reading": None if row.review is ReviewState.UNREAD else _build_review_record(row),
    }


def _build_pictures(thumbnails: Thumbnails) -> dict[str, Any]:
    return {
        "photograph": b64encode(thumbnails.photograph).decode(),
        "tint": thumbnails.layer.tint and b64encode(thumbnails.layer.tint).decode(),
        "lines": thumbnails.layer.contours,
        "large": thumbnails.is_large,
    }


def _build_review_record(row: ReportRow) -> dict[str, Any]:
    return {
        "state": row.review,
        "model": row.model_status if row.model_grade is None else row.model_grade,
        "decisions": [
            asdict(decision) | {"findings": [FINDING_LABELS[Finding(word)] for word in decision.findings]}
            for decision in row.decided
        ],
    }


def build_patient_record(patient: Patient) -> dict[str, Any]:
    """Return the record of a patient: JSON types only."""
    return {
        "id": patient.patient_id,
        "grade": patient.grade,
        "byModel": patient.by_model,
        "attention": patient.needs_attention,
        "waits": patient.pending,
        "steps": patient.outcomes,
        "eyes": [
            {
                "eye": outcome.eye,
                "grade": outcome.grade,
                "label": outcome.label,
                "byModel": outcome.by_model,
                "rank": outcome.rank,
                "file": outcome.file,
                "photographs": outcome.photographs,
                "waits": outcome.pending,
            }
            for outcome in patient.eyes
        ],
    }
