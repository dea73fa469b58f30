"""JSON records of images and patients, as the page's script reads them."""

from base64 import b64encode
from dataclasses import asdict
from typing import Any

from worker.core.clinical_labels import FINDING_LABELS
from worker.core.vocabulary import Finding, ReviewState
from worker.report.columns import Thresholds, is_low_confidence
from worker.report.patients import Patient
from worker.report.rows import ReportRow
from worker.report.thumbnails import Thumbnails

ThumbnailResult = Thumbnails | str | None
"""The thumbnails, the reason why rendering failed, or None if they were not requested."""


def build_image_record(row: ReportRow, thumbnails: ThumbnailResult, thresholds: Thresholds) -> dict[str, Any]:
    """Return the record of an image: JSON types only.

    `chances` are P(grade >= 1) to P(grade >= 4) in percent; `pictures` are the photograph, the network input and the
    saliency colours, base64; `reading` is the model result and the decisions, None if nobody has reviewed the image.
    """
    files = None
    if isinstance(thumbnails, Thumbnails):
        files = [thumbnails.photograph, thumbnails.enhanced, thumbnails.colours]
    return {
        "rank": row.rank,
        "id": row.image_id,
        "file": row.file,
        "patient": row.patient_id,
        "eye": row.eye,
        "reference": row.reference,
        "status": row.status,
        "grade": row.grade,
        "waits": row.pending,
        "chances": None if row.outputs is None else [round(100 * output, 1) for output in row.outputs[1:]],
        "unsure": is_low_confidence(row, thresholds),
        "flags": row.flags.split(",") if row.flags else [],
        "code": row.error_code if row.grade is None else None,
        "detail": row.error_detail if row.grade is None else None,
        "pictures": files and [None if file is None else b64encode(file).decode() for file in files],
        "missing": thumbnails if isinstance(thumbnails, str) else None,
        "reading": None if row.review is ReviewState.UNREAD else _build_review_record(row),
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
        "attention": patient.needs_attention,
        "waits": patient.pending,
        "steps": patient.outcomes,
        "eyes": [
            {
                "eye": outcome.eye,
                "grade": outcome.grade,
                "status": outcome.status,
                "rank": outcome.rank,
                "file": outcome.file,
                "photographs": outcome.photographs,
                "waits": outcome.pending,
            }
            for outcome in patient.eyes
        ],
    }
