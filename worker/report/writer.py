"""Write a report: parts first, then tables, the summary, and last the page that makes all of them one report."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from sqlalchemy import Engine

from worker import __version__
from worker.core.errors import ServiceError
from worker.core.settings import Settings
from worker.core.storage.object_store import Storage
from worker.core.vocabulary import REFERABLE_FROM, Status
from worker.report.columns import NONE, read_columns
from worker.report.destination import SUMMARY, Place
from worker.report.page import PageContent, render_page
from worker.report.parts import Parts
from worker.report.patients import NEXT_STEPS, read_patients
from worker.report.pictures import PictureMaker, Pictures, Remark
from worker.report.presigned_links import INDEX, LINKED
from worker.report.records import Drawn, image_record, patient_record
from worker.report.rows import Row, read_pages
from worker.report.snapshot import Spool
from worker.report.summary import ReportedRun, Summary, count_grades, find_reported, summarise
from worker.report.tables import write_tables

IMAGES_PER_PART = 48
PATIENTS_PER_PART = 500
WITHIN_PAGE_BYTES = 4 * 2**20
"""A report whose parts take no more than this is one file."""
URGENT_SHOWN = 20
ALL_PICTURES_UP_TO = 2000
"""Of larger runs, only referable images get pictures unless all are asked for."""


class ReportStopped(ServiceError):  # noqa: N818 - an order, not a fault
    """The process is about to end: another one writes the report."""

    code = "report_stopped"


@dataclass(frozen=True, slots=True)
class Choices:
    """What a caller may ask for."""

    baseline: str | None = None
    next_steps: Mapping[str, str] = field(default_factory=lambda: NEXT_STEPS)
    all_pictures: bool = False
    pictures: bool = True


def write_report(
    engine: Engine,
    settings: Settings,
    run_name: str,
    place: Place,
    choices: Choices,
    *,
    remark: Remark,
    step: Callable[[int, int], object] = lambda _done, _total: None,
    goes_on: Callable[[], bool] = lambda: True,
) -> str:
    """The first page's address. `step` is called with the images done and to do, `goes_on` before each part.

    The same content is the same files, whoever writes them. Raises RunError for an unknown run, DatabaseError,
    StorageError, and ReportStopped once `goes_on` says no.
    """
    run = find_reported(engine, run_name)
    baseline = None if choices.baseline is None else find_reported(engine, choices.baseline)
    before = place.written_before()
    with Spool(read_pages(engine, run.run_id, run.name)) as spool:
        generation = spool.fingerprint(__version__, settings.overlay_colours, choices)
        parts = Parts(place, generation, within_page_bytes=WITHIN_PAGE_BYTES)
        pictures = _write_images(spool, run, settings, choices, parts, remark, step, goes_on)
        _write_patients(spool, parts)
        content = PageContent(
            run=run,
            summary=summarise(spool),
            baseline=None if baseline is None else (baseline.name, count_grades(engine, baseline.run_id)),
            urgent=list(read_patients(spool, 1, min(URGENT_SHOWN, _count_urgent(spool)))),
            urgent_count=_count_urgent(spool),
            patients=spool.count("SELECT count(*) FROM patients"),
            columns=read_columns(spool, run.thresholds),
            patient_columns=_patient_columns(spool),
            next_steps=choices.next_steps,
            generation=parts.generation,
            images_per_part=IMAGES_PER_PART,
            patients_per_part=PATIENTS_PER_PART,
            pictures=pictures,
            few_pictures=choices.pictures and not _shows_all(spool, choices),
        )
        tables = write_tables(engine, run_name, Storage(settings).overlays, place)
    page = render_page(content, settings, parts.kept())
    files = [INDEX, SUMMARY, *tables, *parts.files]
    place.write(SUMMARY, (json.dumps(_summary(run, content.summary, files), indent=2) + "\n").encode())
    place.write(INDEX, page)
    place.forget((before | {LINKED}) - set(files))
    return place.uri(INDEX)


def _write_images(
    spool: Spool,
    run: ReportedRun,
    settings: Settings,
    choices: Choices,
    parts: Parts,
    remark: Remark,
    step: Callable[[int, int], object],
    goes_on: Callable[[], bool],
) -> int:
    """The number of images that have pictures."""
    images = spool.count("SELECT count(*) FROM images")
    every = _shows_all(spool, choices)
    thresholds = run.thresholds
    if choices.pictures and not every:
        remark(f"of a run of {images:,} images only the referable ones have pictures; all: --all-pictures")
    if run.manifest is None or not choices.pictures:
        return sum(_write_part(spool, number, {}, parts, thresholds) for number in range(1, _parts(images) + 1))
    shown = 0
    with PictureMaker(run.manifest.recipe, settings, remark) as maker:
        for number in range(1, _parts(images) + 1):
            if not goes_on():
                raise ReportStopped(f"the report of run {run.name} is left to another worker")
            wanted = [row for row in _part_rows(spool, number) if _is_shown(row, every=every)]
            shown += _write_part(spool, number, maker.draw(wanted) if wanted else {}, parts, thresholds)
            step(min(number * IMAGES_PER_PART, images), images)
    return shown


def _write_part(
    spool: Spool, number: int, drawn: Mapping[int, Drawn], parts: Parts, thresholds: tuple[float, ...]
) -> int:
    rows = _part_rows(spool, number)
    parts.add("images", number, [image_record(row, drawn.get(row.rank), thresholds) for row in rows])
    return sum(isinstance(one, Pictures) for one in drawn.values())


def _part_rows(spool: Spool, number: int) -> list[Row]:
    return spool.rows((number - 1) * IMAGES_PER_PART + 1, number * IMAGES_PER_PART)


def _parts(images: int) -> int:
    return ceil(images / IMAGES_PER_PART)


def _shows_all(spool: Spool, choices: Choices) -> bool:
    return choices.all_pictures or spool.count("SELECT count(*) FROM images") <= ALL_PICTURES_UP_TO


def _is_shown(row: Row, *, every: bool) -> bool:
    """Whether the image gets pictures; of all that were read, or else of what is referable by model or people."""
    if every:
        return row.model_status in (Status.GRADED, Status.UNGRADABLE)
    return any(grade is not None and grade >= REFERABLE_FROM for grade in (row.grade, row.model_grade))


def _write_patients(spool: Spool, parts: Parts) -> None:
    patients = spool.count("SELECT count(*) FROM patients")
    for number in range(1, ceil(patients / PATIENTS_PER_PART) + 1):
        page = read_patients(spool, (number - 1) * PATIENTS_PER_PART + 1, number * PATIENTS_PER_PART)
        parts.add("patients", number, [patient_record(patient) for patient in page])


def _count_urgent(spool: Spool) -> int:
    return spool.count("SELECT count(*) FROM patients WHERE grade >= ? OR attention OR being_read", int(REFERABLE_FROM))


def _patient_columns(spool: Spool) -> tuple[str, str, str]:
    columns: tuple[list[str], list[str], list[str]] = ([], [], [])
    for grade, *signs in spool.ask("SELECT grade, attention, being_read FROM patients ORDER BY number"):
        for column, sign in zip(columns, (NONE if grade is None else grade, *signs), strict=True):
            column.append(str(sign))
    grades, attention, waits = columns
    return "".join(grades), "".join(attention), "".join(waits)


def _summary(run: ReportedRun, summary: Summary, files: list[str]) -> dict[str, Any]:
    return {
        "run": run.name,
        "state": run.state,
        "model_id": run.model_id,
        "version": __version__,
        "images": summary.images,
        "by_status": summary.by_status,
        "by_grade": {str(int(grade)): count for grade, count in summary.by_grade.items()},
        "by_model_grade": {str(int(grade)): count for grade, count in summary.by_model_grade.items()},
        "referable": summary.referable,
        "readings": summary.readings,
        "changed_by_readers": summary.changed,
        "patients": summary.patients,
        "patients_referable": summary.patients_referable,
        "patients_attention": summary.patients_attention,
        "patients_being_read": summary.patients_being_read,
        "files": files,
    }
