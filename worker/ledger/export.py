"""Export a run to a file, one row per image or one FHIR transaction per study, page by page in constant memory."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine, select

from worker.core.errors import UsageError
from worker.core.fhir.resources import Publisher
from worker.core.image_name import name_below
from worker.core.storage.object_store import ObjectStore
from worker.core.vocabulary import AuditAction, ReviewState, Status
from worker.ledger.audit_log import record_action
from worker.ledger.database import read_transaction, write_transaction
from worker.ledger.export_formats import ExportFormat, open_writer
from worker.ledger.fhir_export import write_transactions
from worker.ledger.final_grades import (
    ReviewDecision,
    describe_outcome,
    find_findings,
    format_decisions,
    is_final_referable,
    read_decisions,
    with_final_grades,
)
from worker.ledger.review_schema import decisions
from worker.ledger.runs import Run
from worker.ledger.schema import gradings, images, inference_configurations
from worker.ledger.site_acceptance import describe_missing_validation

PAGE_ROWS = 5000

_CONFIGURATION = ("program_version", "engine", "precision", "device")
_OUTPUTS = ("p_ge1", "p_ge2", "p_ge3", "p_ge4")


def export_run(
    engine: Engine, overlays: ObjectStore, run: Run, fmt: ExportFormat, out: Path, publisher: Publisher | None = None
) -> int:
    """Export the run's images to `out`, ordered by image id; return the number of rows.

    A run that has not ended can be exported, too. The file is written atomically. The export is recorded in the audit
    log. publisher: of FHIR resources, whose rows are studies. Raises UsageError when the file cannot be written or the
    format's library or publisher is missing, DatabaseError.
    """
    write: Callable[[Path], int] = partial(write_rows, engine, overlays, run, fmt)
    if fmt is ExportFormat.FHIR:
        if publisher is None:
            raise UsageError(
                "FHIR needs FUNDUS_FHIR_SYSTEM; fix: set it to a URI of yours, such as https://HOST/fundus"
            )
        write = partial(write_transactions, engine, run, publisher)
    with write_transaction(engine) as connection:
        # Before the first row is read: an interrupted export has disclosed data, too.
        record_action(connection, AuditAction.EXPORT, run=run.name, format=fmt, out=str(out.absolute()))
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        try:
            rows = write(part)
            part.replace(out)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror or error}") from error
    return rows


def write_rows(engine: Engine, overlays: ObjectStore, run: Run, fmt: ExportFormat, file: Path) -> int:
    """Write the run's images to a new file as a table; return the number of rows.

    Raises OSError, UsageError, DatabaseError.
    """
    rows = 0
    with open_writer(fmt, file) as write:
        for page in _pages(engine, overlays, run):
            write(page)
            rows += len(page)
    return rows


def _pages(engine: Engine, overlays: ObjectStore, run: Run) -> Iterator[list[dict[str, Any]]]:
    with read_transaction(engine) as connection:
        not_validated = describe_missing_validation(connection, run.site, run.model_id)
    of_run = {"site": run.site, "not_validated": not_validated}
    query = with_final_grades(
        select(
            gradings.c.image_id,
            images.c.uri,
            images.c.patient_id,
            images.c.eye,
            gradings.c.status,
            gradings.c.grade,
            *(gradings.c[name] for name in _OUTPUTS),
            gradings.c.referable,
            gradings.c.flags,
            gradings.c.disagreement,
            gradings.c.unfamiliarity,
            gradings.c.model_id,
            gradings.c.overlay_key,
            gradings.c.content_sha256,
            gradings.c.content_version,
            gradings.c.error_code,
            gradings.c.error_detail,
            gradings.c.attempts,
            images.c.reference_grade,
            images.c.source,
            images.c.study_date,
            gradings.c.settled_at,
            gradings.c.configuration_id,
            *(inference_configurations.c[name] for name in _CONFIGURATION),
        )
        .join(images, images.c.image_id == gradings.c.image_id)
        .outerjoin(inference_configurations, inference_configurations.c.configuration_id == gradings.c.configuration_id)
        .where(gradings.c.run_id == run.run_id)
        .order_by(gradings.c.image_id)
        .limit(PAGE_ROWS)
    )
    after = ""
    while True:
        with read_transaction(engine) as connection:
            page = connection.execute(query.where(gradings.c.image_id > after)).all()
            if not page:
                return
            on_page = decisions.c.image_id.between(page[0].image_id, page[-1].image_id)
            decided = read_decisions(connection, run.run_id, run.name, on_page)
        yield [
            _to_cells(row, overlays, decided.get(row.image_id, ())) | of_run | {"file": name_below(row.uri, run.source)}
            for row in page
        ]
        after = page[-1].image_id


def _to_cells(row: Any, overlays: ObjectStore, decided: Sequence[ReviewDecision]) -> dict[str, Any]:
    cells: dict[str, Any] = row._asdict()
    key, settled_at = cells.pop("overlay_key"), cells.pop("settled_at")
    cells |= {name: _shortest_decimal(cells[name]) for name in (*_OUTPUTS, "disagreement", "unfamiliarity")}
    cells["model_flags"] = cells.pop("flags")
    cells["overlay_uri"] = None if key is None else overlays.uri(key)
    review, grades = ReviewState(row.review), (row.grade, row.final_grade)
    cells["decisions"] = format_decisions(decided) or None
    cells["findings"] = ",".join(find_findings(review, decided)) or None
    cells["outcome"] = describe_outcome(Status(row.status), review, *grades)
    cells["final_referable"] = is_final_referable(review, *grades, decided)
    cells["study_date"] = None if row.study_date is None else row.study_date.isoformat()
    cells["graded_at"] = settled_at if row.status == Status.GRADED else None
    return cells


def _shortest_decimal(value: float | None) -> float | None:
    """Round to the shortest decimal of the same float32: SQLite returns float64, PostgreSQL float32."""
    return None if value is None else float(str(np.float32(value)))
