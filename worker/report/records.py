"""What a part of the report says of one image, and of one patient."""

from base64 import b64encode
from dataclasses import asdict
from typing import Any

from worker.core.vocabulary import ReviewState
from worker.report.columns import Thresholds, is_low_confidence
from worker.report.patients import Patient
from worker.report.rows import ReportRow
from worker.report.thumbnails import Thumbnails

ThumbnailResult = Thumbnails | str | None
"""The pictures, or a sentence on why there are none, or None where none were asked for."""


def build_image_record(row: ReportRow, drawn: ThumbnailResult, thresholds: Thresholds) -> dict[str, Any]:
    """JSON types; `chances` are P(grade >= 1) to P(grade >= 4) in percent, `pictures` photograph, enhanced, colours.

    `reading`: what the model had said and who decided what, None where nobody has begun to read.
    """
    pictures = drawn if isinstance(drawn, Thumbnails) else None
    shown = None if pictures is None else [pictures.photograph, pictures.enhanced, pictures.colours]
    return {
        "rank": row.rank,
        "id": row.image_id,
        "file": row.file,
        "patient": row.patient_id,
        "eye": row.eye,
        "reference": row.reference,
        "status": row.status,
        "grade": row.grade,
        "chances": None if row.outputs is None else [round(100 * output, 1) for output in row.outputs[1:]],
        "unsure": is_low_confidence(row, thresholds),
        "flags": row.flags.split(",") if row.flags else [],
        "code": row.error_code if row.grade is None else None,
        "detail": row.error_detail if row.grade is None else None,
        "pictures": shown and [None if picture is None else b64encode(picture).decode() for picture in shown],
        "missing": drawn if isinstance(drawn, str) else None,
        "reading": None if row.review is ReviewState.UNREAD else _reading(row),
    }


def _reading(row: ReportRow) -> dict[str, Any]:
    return {
        "state": row.review,
        "model": row.model_status if row.model_grade is None else row.model_grade,
        "decisions": [asdict(one) for one in row.decided],
    }


def build_patient_record(patient: Patient) -> dict[str, Any]:
    """JSON types."""
    return {
        "id": patient.patient_id,
        "grade": patient.grade,
        "attention": patient.needs_attention,
        "waits": patient.under_review,
        "steps": patient.outcomes,
        "eyes": [
            {
                "eye": outcome.eye,
                "grade": outcome.grade,
                "status": outcome.status,
                "rank": outcome.rank,
                "file": outcome.file,
                "photographs": outcome.photographs,
                "waits": outcome.under_review,
            }
            for outcome in patient.eyes
        ],
    }
