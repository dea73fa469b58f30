"""Rows of a report without a ledger."""

from datetime import UTC, datetime, timedelta

import numpy as np

from worker.contract.vocabulary import Eye, Status
from worker.report.rows import Row

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
) -> Row:
    """Graded, or ungradable without a grade; `worst` is the chance of grade 4."""
    graded = grade is not None
    return Row(
        image_id=image_id,
        uri=f"file:///eyes/{image_id}.jpg",
        sha256=None,
        patient_id=patient,
        eye=eye,
        reference=None,
        status=status or (Status.GRADED if graded else Status.UNGRADABLE),
        grade=grade,
        flags="",
        error_code=None if graded else "blurred",
        error_detail=None if graded else "why",
        overlay_key=None,
        saliency=np.ones((7, 7), np.float16).tobytes() if graded else None,
        settled_at=NOON + timedelta(seconds=seconds),
        outputs=(1.0, 0.9, 0.8, 0.5, worst) if graded else None,
    )
