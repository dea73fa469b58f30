"""Write a report: parts, tables, summary, and finally the page that refers to them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from math import ceil
from typing import Any

from sqlalchemy import Engine

from worker import __version__
from worker.core.errors import ServiceError
from worker.core.settings import Settings
from worker.core.storage.storage import Storage
from worker.core.vocabulary import REFERABLE_FROM, Status
from worker.ledger.configurations import read_used_configurations
from worker.report.columns import read_filter_columns
from worker.report.destination import SUMMARY, Destination
from worker.report.page import PageContent, render_page
from worker.report.parts import ReportParts
from worker.report.patients import NEXT_STEPS, read_patients
from worker.report.presigned_links import INDEX, LINKED
from worker.report.records import ThumbnailResult, build_image_record, build_patient_record
from worker.report.rows import ReportRow, read_report_pages
from worker.report.snapshot import Snapshot
from worker.report.summary import ReportedRun, find_reported_run, read_grade_shares, summarise
from worker.report.tables import write_tables
from worker.report.thumbnails import OnWarning, ThumbnailRenderer, Thumbnails

IMAGES_PER_PART = 48
PATIENTS_PER_PART = 500
WITHIN_PAGE_BYTES = 4 * 2**20
"""Parts up to this total size are embedded in the page."""
URGENT_SHOWN = 20
ALL_PICTURES_UP_TO = 2000
"""In larger runs only referable images get thumbnails, unless all are requested."""


class ReportStopped(ServiceError):  # noqa: N818 - a request, not an error
    """The report was interrupted because the process is shutting down. Another process will write it."""

    code = "report_stopped"


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """Options of a report.

    baseline: name of a run whose grades are shown for comparison. next_steps: sentences by outcome, see `patients`.
    pictures: render thumbnails; all_pictures: for all images of a large run, not only for referable ones.
    """

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

    The files depend only on the content of the run and the options. `on_warning` receives one sentence per problem,
    `on_progress` the number of images done and in total; `should_continue` is called before each part. Raises RunError
    for an unknown run, DatabaseError, StorageError, and ReportStopped when `should_continue` returns False.
    """
    run = find_reported_run(engine, run_name)
    baseline = None if options.baseline is None else find_reported_run(engine, options.baseline)
    used, unrecorded = read_used_configurations(engine, run.run_id)
    before = destination.list_files()
    with Snapshot(read_report_pages(engine, run.run_id, run.name, run.source)) as snapshot:
        generation = snapshot.fingerprint(__version__, settings.overlay_colours, options)
        parts = ReportParts(destination, generation, within_page_bytes=WITHIN_PAGE_BYTES)
        pictures = _write_images(snapshot, run, settings, options, parts, on_warning, on_progress, should_continue)
        _write_patients(snapshot, parts)
        content = PageContent(
            run=run,
            summary=summarise(snapshot),
            configurations=used,
            unrecorded=unrecorded,
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
            few_pictures=options.pictures and not _includes_all(snapshot, options),
        )
        tables = write_tables(engine, run_name, Storage(settings).overlays, destination)
    page = render_page(content, settings, parts.embedded())
    files = [INDEX, SUMMARY, *tables, *parts.files]
    destination.write(SUMMARY, (json.dumps(_summary_document(content, files), indent=2) + "\n").encode())
    destination.write(INDEX, page)
    destination.delete((before | {LINKED}) - set(files))
    return destination.uri(INDEX)


def _write_images(
    snapshot: Snapshot,
    run: ReportedRun,
    settings: Settings,
    options: ReportOptions,
    parts: ReportParts,
    on_warning: OnWarning,
    on_progress: Callable[[int, int], object],
    should_continue: Callable[[], bool],
) -> int:
    """Write the parts of all images and return the number of images with thumbnails."""
    images = snapshot.count("SELECT count(*) FROM images")
    every = _includes_all(snapshot, options)
    thresholds = run.thresholds
    if options.pictures and not every:
        on_warning(f"run has {images:,} images: only referable ones get thumbnails; use --all-pictures to include all")
    if run.manifest is None or not options.pictures:
        return sum(_write_part(snapshot, number, {}, parts, thresholds) for number in range(1, _part_count(images) + 1))
    pictured_count = 0
    referable = "SELECT count(*) FROM images WHERE urgency >= ? OR model_grade >= ?"
    shown = images if every else snapshot.count(referable, REFERABLE_FROM, REFERABLE_FROM)
    with ThumbnailRenderer(run.manifest.recipe, settings, on_warning, images=shown) as renderer:
        for number in range(1, _part_count(images) + 1):
            if not should_continue():
                raise ReportStopped(f"stopped writing the report of run {run.name}; another worker will write it")
            pictured = [row for row in _part_rows(snapshot, number) if _has_thumbnails(row, every=every)]
            pictured_count += _write_part(
                snapshot, number, renderer.render(pictured) if pictured else {}, parts, thresholds
            )
            on_progress(min(number * IMAGES_PER_PART, images), images)
    return pictured_count


def _write_part(
    snapshot: Snapshot,
    number: int,
    thumbnails: Mapping[int, ThumbnailResult],
    parts: ReportParts,
    thresholds: tuple[float, ...],
) -> int:
    rows = _part_rows(snapshot, number)
    parts.add("images", number, [build_image_record(row, thumbnails.get(row.rank), thresholds) for row in rows])
    return sum(isinstance(one, Thumbnails) for one in thumbnails.values())


def _part_rows(snapshot: Snapshot, number: int) -> list[ReportRow]:
    return snapshot.rows((number - 1) * IMAGES_PER_PART + 1, number * IMAGES_PER_PART)


def _part_count(images: int) -> int:
    return ceil(images / IMAGES_PER_PART)


def _includes_all(snapshot: Snapshot, options: ReportOptions) -> bool:
    return options.all_pictures or snapshot.count("SELECT count(*) FROM images") <= ALL_PICTURES_UP_TO


def _has_thumbnails(row: ReportRow, *, every: bool) -> bool:
    """Whether an image gets thumbnails: every decodable one, or only those referable by the model or the readers."""
    if every:
        return row.model_status in (Status.GRADED, Status.UNGRADABLE)
    return row.is_referable


def _write_patients(snapshot: Snapshot, parts: ReportParts) -> None:
    patients = snapshot.count("SELECT count(*) FROM patients")
    for number in range(1, ceil(patients / PATIENTS_PER_PART) + 1):
        page = read_patients(snapshot, (number - 1) * PATIENTS_PER_PART + 1, number * PATIENTS_PER_PART)
        parts.add("patients", number, [build_patient_record(patient) for patient in page])


def _count_urgent(snapshot: Snapshot) -> int:
    return snapshot.count("SELECT count(*) FROM patients WHERE referable OR attention OR under_review OR queued")


def _patient_columns(snapshot: Snapshot) -> tuple[str, str, str]:
    columns: tuple[list[str], list[str], list[str]] = ([], [], [])
    for signs in snapshot.query("SELECT referable, attention, under_review OR queued FROM patients ORDER BY number"):
        for column, sign in zip(columns, signs, strict=True):
            column.append(str(sign))
    referable, attention, waits = columns
    return "".join(referable), "".join(attention), "".join(waits)


def _summary_document(content: PageContent, files: list[str]) -> dict[str, Any]:
    run, summary = content.run, content.summary
    return {
        "run": run.name,
        "state": run.state,
        "model_id": run.model_id,
        "site": run.site,
        "not_validated": run.not_validated,
        "published": run.published,
        "version": __version__,
        "configurations": [
            {"configuration_id": one.configuration.configuration_id, "images": one.images, **asdict(one.configuration)}
            for one in content.configurations
        ],
        "configuration_not_recorded": content.unrecorded,
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
