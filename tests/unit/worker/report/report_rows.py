"""Rows of a report without a ledger."""

from datetime import UTC, datetime
from typing import Any

import numpy as np

from worker.core.vocabulary import Eye, Status
from worker.ledger.schema import OUTPUTS
from worker.report.snapshot import Snapshot

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def row(
    image_id: str,
    grade: int | None = 0,
    *,
    patient: str | None = None,
    eye: Eye = Eye.UNKNOWN,
    status: Status | None = None,
    seconds: float = 0,
    worst: float = 0.1,
    **values: Any,
) -> dict[str, Any]:
    """Return a row: graded, or ungradable if `grade` is None. `worst` is P(grade >= 4); `values` override columns."""
    graded = grade is not None
    outputs = (1.0, 0.9, 0.8, 0.7, worst) if graded else (None,) * 5
    return {
        "image_id": image_id,
        "uri": f"file:///eyes/{image_id}.jpg",
        "file": f"{image_id}.jpg",
        "sha256": None,
        "content_sha256": None,
        "patient_id": patient,
        "eye": eye,
        "reference_grade": None,
        "status": status or (Status.GRADED if graded else Status.UNGRADABLE),
        "grade": grade,
        "flags": "" if graded else None,
        "error_code": None if graded else "blurred",
        "error_detail": None if graded else "why",
        "saliency": np.ones((7, 7), np.float16).tobytes() if graded else None,
        "evidence": 18.2 if graded else None,
        "evidence_scale": 18.2 if graded else None,
        "settled_at": NOON.timestamp() + seconds,
        **dict(zip(OUTPUTS, outputs, strict=True)),
        "review": "unread",
        "final_grade": grade,
        "decisions": None,
        "worst_decision": None,
        **values,
    }


def read(row: dict[str, Any], final: int | None, review: str = "read") -> dict[str, Any]:
    """Return the row with a review in this state."""
    return row | {"review": review, "final_grade": final}


def make_snapshot(*rows: dict[str, Any]) -> Snapshot:
    return Snapshot([list(rows)])
