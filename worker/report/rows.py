"""Read a run as its report tells of it: one row per image, in flat pages of the ledger."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, select

from worker.contract.database import reading
from worker.contract.schema import OUTPUTS, gradings, images
from worker.contract.vocabulary import Eye, Status

PAGE_ROWS = 5000
COLUMNS = (
    "image_id", "uri", "sha256", "patient_id", "eye", "reference_grade", "status", "grade", "flags", "error_code",
    "error_detail", "saliency", "settled_at", *OUTPUTS,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One image of a run. `rank` is its place in the report, from 1, the most urgent first.

    `outputs` are P(grade >= 0) to P(grade >= 4), None where the image is not graded.
    """

    rank: int
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
    saliency: bytes | None
    outputs: tuple[float, ...] | None

    @property
    def file(self) -> str:
        """The last part of the reference."""
        return self.uri.rpartition("/")[2]


def read_pages(engine: Engine, run_id: int) -> Iterator[list[dict[str, Any]]]:
    """Rows of COLUMNS in the order of the image ids, `settled_at` in seconds since 1970. Raises DatabaseError."""
    query = (
        select(*(images.c[name] if name in images.c and name != "image_id" else gradings.c[name] for name in COLUMNS))
        .join(images, images.c.image_id == gradings.c.image_id)
        .where(gradings.c.run_id == run_id)
        .order_by(gradings.c.image_id)
        .limit(PAGE_ROWS)
    )
    after = ""
    while True:
        with reading(engine) as connection:
            page = connection.execute(query.where(gradings.c.image_id > after)).mappings().all()
        if not page:
            return
        yield [
            {**row, "settled_at": None if row["settled_at"] is None else row["settled_at"].timestamp()} for row in page
        ]
        after = page[-1]["image_id"]
