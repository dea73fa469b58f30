"""Read a run as its report tells of it: one row per image, in flat pages of the ledger."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, select

from worker.contract.database import reading
from worker.contract.schema import OUTPUTS, gradings, images
from worker.contract.vocabulary import Eye, Status

PAGE_ROWS = 5000


@dataclass(frozen=True, slots=True)
class Row:
    """One image of a run. `outputs` are P(grade >= 0) to P(grade >= 4), None where the image is not graded."""

    image_id: str
    uri: str
    sha256: str | None
    patient_id: str | None
    eye: Eye
    reference: int | None
    status: Status
    grade: int | None
    flags: str
    error_code: str | None
    error_detail: str | None
    overlay_key: str | None
    saliency: bytes | None
    settled_at: datetime | None
    outputs: tuple[float, ...] | None

    @property
    def urgency(self) -> tuple[float, ...]:
        """Sorts the most urgent first: the grade, then the chances of the worst grades."""
        if self.grade is None or self.outputs is None:
            return (0.0,)
        return (-float(self.grade), *(-chance for chance in reversed(self.outputs)))


def read_rows(engine: Engine, run_id: int) -> list[Row]:
    """In the order of the image ids. Raises DatabaseError."""
    query = (
        select(
            gradings.c.image_id,
            images.c.uri,
            images.c.sha256,
            images.c.patient_id,
            images.c.eye,
            images.c.reference_grade,
            gradings.c.status,
            gradings.c.grade,
            gradings.c.flags,
            gradings.c.error_code,
            gradings.c.error_detail,
            gradings.c.overlay_key,
            gradings.c.saliency,
            gradings.c.settled_at,
            *(gradings.c[name] for name in OUTPUTS),
        )
        .join(images, images.c.image_id == gradings.c.image_id)
        .where(gradings.c.run_id == run_id)
        .order_by(gradings.c.image_id)
        .limit(PAGE_ROWS)
    )
    rows: list[Row] = []
    while True:
        after = rows[-1].image_id if rows else ""
        with reading(engine) as connection:
            page = connection.execute(query.where(gradings.c.image_id > after)).all()
        if not page:
            return rows
        for image_id, uri, sha256, patient, eye, reference, status, grade, flags, *rest in page:
            code, detail, key, saliency, settled_at, *outputs = rest
            rows.append(
                Row(
                    image_id=image_id,
                    uri=uri,
                    sha256=sha256,
                    patient_id=patient,
                    eye=Eye(eye),
                    reference=reference,
                    status=Status(status),
                    grade=grade,
                    flags=flags or "",
                    error_code=code,
                    error_detail=detail,
                    overlay_key=key,
                    saliency=saliency,
                    settled_at=settled_at,
                    outputs=None if grade is None else tuple(outputs),
                )
            )
