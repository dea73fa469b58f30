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
from worker.core.storage.storage import Storage
from worker.core.vocabulary import REFERABLE_FROM, Status
from worker.report.columns import NONE, read_filter_columns
from worker.report.destination import SUMMARY, Destination
from worker.report.page import PageContent, render_page
from worker.report.parts import Parts
from worker.report.patients import NEXT_STEPS, read_patients
from worker.report.presigned_links import INDEX, LINKED
from worker.report.records import ThumbnailResult, build_image_record, build_patient_record
from worker.report.rows import ReportRow, read_report_pages
from worker.report.snapshot import Snapshot
from worker.report.summary import ReportedRun, Summary, find_reported_run, read_grade_shares, summarise
from worker.report.tables import write_tables
from worker.report.thumbnails import OnWarning, ThumbnailRenderer, Thumbnails

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
class ReportOptions:
    """What a caller may ask for."""

    baseline: str | None = None
    next_steps: Mapping[str, str] = field(default_factory=lambda: NEXT_STEPS)
    all_pictures: bool = False
    pictures: bool = True


def write_report(
    engine: Engine,
    settings: Settings,
    run_name: str,
    destination: Destination,
    options: ReportOptions,
    *,
    on_warning: OnWarning,
    on_progress: Callable[[int, int], object] = lambda _done, _total: None,
    should_continue: Callable[[], bool] = lambda: True,
) -> str:
    """Write the report of a run and return the address of its page.

    The same content is the same files, whoever writes them. Raises RunError for an unknown run, DatabaseError,
    StorageError, and ReportStopped once `should_continue` says no.
    """
    run = find_reported_run(engine, run_name)
    baseline = None if options.baseline is None else find_reported_run(engine, options.baseline)
    before = destination.list_files()
    with Snapshot(read_report_pages(engine, run.run_id, run.name)) as snapshot:
        generation = snapshot.fingerprint(__version__, settings.overlay_colours, options)
        parts = Parts(destination, generation, within_page_bytes=WITHIN_PAGE_BYTES)
        pictures = _write_images(snapshot, run, settings, options, parts, on_warning, on_progress, should_continue)
        _write_patients(snapshot, parts)
        content = PageContent(
            run=run,
            summary=summarise(snapshot),
            baseline=None if baseline is None else (baseline.name, read_grade_shares(engine, baseline.run_id)),
            urgent=list(read_patients(snapshot, 1, min(URGENT_SHOWN, _count_urgent(snapshot)))),
            urgent_count=_count_urgent(snapshot),
            patients=snapshot.count("SELECT count(*) FROM patients"),
            columns=read_filter_columns(snapshot, run.thresholds),
            patient_columns=_patient_columns(snapshot),
            next_steps=options.next_steps,
            generation=parts.generation,
            images_per_part=IMAGES_PER_PART,
            patients_per_part=PATIENTS_PER_PART,
            pictures=pictures,
            few_pictures=options.pictures and not _shows_all(snapshot, options),
        )
        tables = write_tables(engine, run_name, Storage(settings).overlays, destination)
    page = render_page(content, settings, parts.kept())
    files = [INDEX, SUMMARY, *tables, *parts.files]
    destination.write(SUMMARY, (json.dumps(_summary(run, content.summary, files), indent=2) + "\n").encode())
    destination.write(INDEX, page)
    destination.delete((before | {LINKED}) - set(files))
    return destination.uri(INDEX)


def _write_images(
    snapshot: Snapshot,
    run: ReportedRun,
    settings: Settings,
    options: ReportOptions,
    parts: Parts,
    on_warning: OnWarning,
    on_progress: Callable[[int, int], object],
    should_continue: Callable[[], bool],
) -> int:
    """The number of images that have pictures."""
    images = snapshot.count("SELECT count(*) FROM images")
    every = _shows_all(snapshot, options)
    thresholds = run.thresholds
    if options.pictures and not every:
        on_warning(f"of a run of {images:,} images only the referable ones have pictures; all: --all-pictures")
    if run.manifest is None or not options.pictures:
        return sum(_write_part(snapshot, number, {}, parts, thresholds) for number in range(1, _parts(images) + 1))
    shown = 0
    with ThumbnailRenderer(run.manifest.recipe, settings, on_warning) as maker:
        for number in range(1, _parts(images) + 1):
            if not should_continue():
                raise ReportStopped(f"the report of run {run.name} is left to another worker")
            wanted = [row for row in _part_rows(snapshot, number) if _is_shown(row, every=every)]
            shown += _write_part(snapshot, number, maker.draw(wanted) if wanted else {}, parts, thresholds)
            on_progress(min(number * IMAGES_PER_PART, images), images)
    return shown


def _write_part(
    snapshot: Snapshot, number: int, drawn: Mapping[int, ThumbnailResult], parts: Parts, thresholds: tuple[float, ...]
) -> int:
    rows = _part_rows(snapshot, number)
    parts.add("images", number, [build_image_record(row, drawn.get(row.rank), thresholds) for row in rows])
    return sum(isinstance(one, Thumbnails) for one in drawn.values())


def _part_rows(snapshot: Snapshot, number: int) -> list[ReportRow]:
    return snapshot.rows((number - 1) * IMAGES_PER_PART + 1, number * IMAGES_PER_PART)


def _parts(images: int) -> int:
    return ceil(images / IMAGES_PER_PART)


def _shows_all(snapshot: Snapshot, options: ReportOptions) -> bool:
    return options.all_pictures or snapshot.count("SELECT count(*) FROM images") <= ALL_PICTURES_UP_TO


def _is_shown(row: ReportRow, *, every: bool) -> bool:
    """Whether the image gets pictures; of all that were read, or else of what is referable by model or people."""
    if every:
        return row.model_status in (Status.GRADED, Status.UNGRADABLE)
    return any(grade is not None and grade >= REFERABLE_FROM for grade in (row.grade, row.model_grade))


def _write_patients(snapshot: Snapshot, parts: Parts) -> None:
    patients = snapshot.count("SELECT count(*) FROM patients")
    for number in range(1, ceil(patients / PATIENTS_PER_PART) + 1):
        page = read_patients(snapshot, (number - 1) * PATIENTS_PER_PART + 1, number * PATIENTS_PER_PART)
        parts.add("patients", number, [build_patient_record(patient) for patient in page])


def _count_urgent(snapshot: Snapshot) -> int:
    return snapshot.count(
        "SELECT count(*) FROM patients WHERE grade >= ? OR attention OR under_review", int(REFERABLE_FROM)
    )


def _patient_columns(snapshot: Snapshot) -> tuple[str, str, str]:
    columns: tuple[list[str], list[str], list[str]] = ([], [], [])
    for grade, *signs in snapshot.ask("SELECT grade, attention, under_review FROM patients ORDER BY number"):
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
        "readings": summary.reviews,
        "changed_by_readers": summary.changed,
        "patients": summary.patients,
        "patients_referable": summary.patients_referable,
        "patients_attention": summary.patients_attention,
        "patients_being_read": summary.patients_under_review,
        "files": files,
    }
