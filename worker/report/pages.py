"""Write a report: the first page, patients, and a gallery for each grade and outcome."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from sqlalchemy import Engine

from worker import __version__
from worker.contract.files import write_whole
from worker.contract.settings import Settings
from worker.contract.vocabulary import REFERABLE_FROM, Eye, Flag, Grade, Status
from worker.report.content import WORDS, ReportedRun, count_grades, find_reported, summarise
from worker.report.patients import ATTENTION, Patient, judge_patients
from worker.report.pictures import Pictures, draw_pictures
from worker.report.rows import Row, read_rows
from worker.steps.overlay import colour_table

IMAGES_PER_PAGE = 48
PATIENTS_PER_PAGE = 200
URGENT_SHOWN = 20
ALL_PICTURES_UP_TO = 2000
"""Of larger runs, only referable images get pictures unless all are asked for."""

SCALE_STEPS = 15
EYES = {Eye.RIGHT: "Right eye", Eye.LEFT: "Left eye", Eye.UNKNOWN: "Eye not named"}
REMARKS = {
    Flag.NO_OUTPUT_PASSED: "No output passed its threshold.",
    Flag.NOT_MONOTONE: "The chances do not fall from grade to grade: look twice.",
    Flag.NO_EVIDENCE: "Nothing in the photograph speaks for the grade: look twice.",
}

Remark = Callable[[str], object]
"""Called with a sentence on what the report lacks."""


@dataclass(frozen=True, slots=True)
class Gallery:
    """The images of one grade, or of one outcome without a grade; `name` is part of the pages' file names."""

    name: str
    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Choices:
    """What a caller may ask for."""

    baseline: str | None = None
    next_steps: Mapping[str, str] = field(default_factory=dict)
    all_pictures: bool = False
    pictures: bool = True


def write_report(
    engine: Engine,
    settings: Settings,
    run_name: str,
    out: Path,
    choices: Choices,
    *,
    remark: Remark,
    step: Callable[[int, int], object] = lambda _done, _total: None,
) -> Path:
    """The first page's path; `out` is made. `step` is called with the pictures done and to do.

    Raises RunError for an unknown run, DatabaseError, and OSError when `out` cannot be written.
    """
    run = find_reported(engine, run_name)
    rows = read_rows(engine, run.run_id)
    patients = judge_patients(rows)
    galleries = _galleries(rows)
    baseline = None if choices.baseline is None else find_reported(engine, choices.baseline)
    folder = out / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    pictures = _draw(rows, run, settings, choices, folder, remark, step)
    eyes = {eye: words for eye, words in EYES.items() if any(row.eye is eye for row in rows)}
    pages = _Pages(run, out, choices, pictures, galleries, eyes)
    static = files("worker.report") / "static"
    write_whole(out / "report.js", (static / "report.js").read_bytes())
    write_whole(out / "report.css", (static / "report.css").read_bytes() + _scale(settings.overlay_colours).encode())
    for gallery in galleries:
        pages.write_gallery(gallery)
    pages.write_patients(patients)
    summary = summarise(rows, patients)
    shares = None if baseline is None else (baseline.name, count_grades(engine, baseline.run_id))
    document = {
        "run": run.name,
        "model_id": run.model_id,
        "version": __version__,
        "images": summary.images,
        "by_status": summary.by_status,
        "by_grade": {str(int(grade)): count for grade, count in summary.by_grade.items()},
        "referable": summary.referable,
        "patients": summary.patients,
        "patients_referable": summary.patients_referable,
        "patients_attention": summary.patients_attention,
    }
    write_whole(out / "summary.json", (json.dumps(document, indent=2) + "\n").encode())
    return pages.write_index(summary, patients, shares)


def _galleries(rows: Sequence[Row]) -> list[Gallery]:
    """The worst grade first, each with its most urgent image first; then what has no grade. Empty ones are left out."""
    found = [
        Gallery(
            f"grade-{grade:d}",
            f"Grade {grade:d}: {WORDS[grade]}",
            tuple(sorted((row for row in rows if row.grade == grade), key=lambda row: row.urgency)),
        )
        for grade in reversed(Grade)
    ]
    found.extend(
        Gallery(str(status), str(status).capitalize(), tuple(row for row in rows if row.status is status))
        for status in (Status.UNGRADABLE, Status.FAILED, Status.QUARANTINED)
    )
    return [gallery for gallery in found if gallery.rows]


def _draw(
    rows: Sequence[Row],
    run: ReportedRun,
    settings: Settings,
    choices: Choices,
    folder: Path,
    remark: Remark,
    step: Callable[[int, int], object],
) -> dict[str, Pictures]:
    if not choices.pictures:
        return {}
    every = choices.all_pictures or len(rows) <= ALL_PICTURES_UP_TO
    wanted = [
        (number, row)
        for number, row in enumerate(rows)
        if row.grade is not None and (every or row.grade >= REFERABLE_FROM)
    ]
    if not every:
        remark(f"only the {len(wanted):,} referable of {len(rows):,} images have pictures; all: --all-pictures")
    drawn: dict[str, Pictures] = {}
    for number, pictures in draw_pictures(wanted, run.manifest.recipe, settings, folder, remark):
        drawn[rows[number].image_id] = pictures
        step(len(drawn), len(wanted))
    return drawn


def _scale(colours: str) -> str:
    """The legend's colours, from little to much."""
    stops = ", ".join(f"rgb({r} {g} {b})" for r, g, b in colour_table(colours)[:: 255 // SCALE_STEPS].tolist())
    return f".scale {{ background: linear-gradient(to right, {stops}); }}\n"


class _Pages:
    """Holds what all pages of one report share."""

    def __init__(
        self,
        run: ReportedRun,
        out: Path,
        choices: Choices,
        pictures: Mapping[str, Pictures],
        galleries: Sequence[Gallery],
        eyes: Mapping[Eye, str],
    ) -> None:
        self._out = out
        environment = Environment(
            loader=PackageLoader("worker.report"),
            # Every template is HTML: file names, patient ids and errors come from strangers.
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["moment"] = lambda at: f"{at:%Y-%m-%d %H:%M} UTC"
        environment.filters["thousands"] = lambda number: f"{number:,}"
        environment.filters["file"] = lambda uri: uri.rpartition("/")[2]
        places = {
            row.image_id: f"{gallery.name}-{number // IMAGES_PER_PAGE + 1}.html#{row.image_id}"
            for gallery in galleries
            for number, row in enumerate(gallery.rows)
        }
        environment.globals |= {
            "run": run,
            "version": __version__,
            "words": {int(grade): word for grade, word in WORDS.items()},
            "referable_from": int(REFERABLE_FROM),
            "attention": ATTENTION,
            "next_steps": choices.next_steps,
            "pictures": pictures,
            "places": places,
            "galleries": galleries,
            "eyes": eyes,
            "remarks": REMARKS,
        }
        self._environment = environment

    def write_index(self, summary: Any, patients: Sequence[Patient], baseline: tuple[str, Any] | None) -> Path:
        """The first page."""
        urgent = [patient for patient in patients if patient.needs_attention or (patient.grade or 0) >= REFERABLE_FROM]
        return self._write(
            "index.html",
            "index.html",
            summary=summary,
            baseline=baseline,
            urgent=urgent[:URGENT_SHOWN],
            urgent_count=len(urgent),
            patients=patients,
        )

    def write_gallery(self, gallery: Gallery) -> None:
        """Pages of IMAGES_PER_PAGE images."""
        pages = math.ceil(len(gallery.rows) / IMAGES_PER_PAGE)
        for number in range(1, pages + 1):
            rows = gallery.rows[(number - 1) * IMAGES_PER_PAGE : number * IMAGES_PER_PAGE]
            name = f"{gallery.name}-{number}.html"
            self._write(name, "gallery.html", gallery=gallery, rows=rows, page=number, pages=pages, stem=gallery.name)

    def write_patients(self, patients: Sequence[Patient]) -> None:
        """Pages of PATIENTS_PER_PAGE patients, the most urgent first."""
        pages = max(1, math.ceil(len(patients) / PATIENTS_PER_PAGE))
        for number in range(1, pages + 1):
            shown = patients[(number - 1) * PATIENTS_PER_PAGE : number * PATIENTS_PER_PAGE]
            self._write(
                f"patients-{number}.html", "patients.html", patients=shown, page=number, pages=pages, stem="patients"
            )

    def _write(self, name: str, template: str, **content: Any) -> Path:
        text = self._environment.get_template(template).render(**content)
        write_whole(self._out / name, text.encode())
        return self._out / name
