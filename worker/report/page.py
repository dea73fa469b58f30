"""Render the page of a report: the overview as HTML, and the data that its script needs for the lists."""

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from worker import __version__
from worker.core.clinical_labels import EYE_LABELS, FLAG_NOTES, GRADE_LABELS
from worker.core.settings import Settings
from worker.core.vocabulary import THRESHOLD_MARGIN, Grade, ReviewState, Status
from worker.imaging.colour_maps import load_colour_map
from worker.ledger.configurations import UsedConfiguration
from worker.model.ordinal import ALL_OUTPUTS, describe_explained_outputs
from worker.report.columns import FilterColumns
from worker.report.parts import encode_for_script
from worker.report.patients import Patient
from worker.report.remedies import find_remedy
from worker.report.rows import UNDER_REVIEW
from worker.report.summary import ReportedRun, Summary

STATUS_LABELS = {UNDER_REVIEW: "awaiting reading"}
"""Labels of the statuses that are not displayed as stored."""
SCALE_STEPS = 15


@dataclass(frozen=True, slots=True)
class PageContent:
    """Everything that the page shows.

    configurations: what computed the outcomes; unrecorded: number of outcomes for which the ledger does not have it.
    baseline: name of another run and its shares of the grades. patient_columns: one character per patient, most urgent
    first: whether referable, whether an eye has no grade, whether an eye is not decided. pictures: images with
    thumbnails; few_pictures: only referable images have them.
    """

    run: ReportedRun
    summary: Summary
    configurations: Sequence[UsedConfiguration]
    unrecorded: int
    baseline: tuple[str, Mapping[Grade, float]] | None
    urgent: Sequence[Patient]
    urgent_count: int
    patients: int
    columns: FilterColumns
    patient_columns: tuple[str, str, str]
    next_steps: Mapping[str, str]
    generation: str
    images_per_part: int
    patients_per_part: int
    pictures: int
    few_pictures: bool


def render_page(content: PageContent, settings: Settings, parts: Iterable[tuple[str, str]]) -> bytes:
    """Return the page, UTF-8. `parts` are name and JSON of the parts to embed, from `encode_for_script`."""
    static = files("worker.report") / "static"
    style = (static / "report.css").read_text(encoding="utf-8") + _scale(settings.overlay_colours)
    script = (static / "report.js").read_text(encoding="utf-8")
    environment = Environment(
        loader=PackageLoader("worker.report"),
        # File names, patient ids and errors are untrusted.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["moment"] = lambda at: f"{at:%Y-%m-%d %H:%M} UTC"
    environment.filters["commands"] = format_commands
    environment.filters["thousands"] = lambda number: f"{number:,}"
    environment.filters["percent"] = lambda fraction: f"{100 * fraction:.1f}"
    environment.filters["rate"] = _format_rate
    text = environment.get_template("index.html").render(
        **{field: getattr(content, field) for field in content.__dataclass_fields__},
        report_data=Markup(encode_for_script(_page_data(content))),  # noqa: S704 - escaped by encode_for_script
        parts=[(name, Markup(text)) for name, text in parts],  # noqa: S704 - escaped by encode_for_script
        style=Markup(style),  # noqa: S704 - shipped with the package
        script=Markup(script),  # noqa: S704 - shipped with the package
        style_hash=_hash(style),
        script_hash=_hash(script),
        version=__version__,
        settings=settings,
        time_range=format_time_range,
        grade_labels={int(grade): label for grade, label in GRADE_LABELS.items()},
        eye_labels=_present_eyes(content.columns),
        find_remedy=find_remedy,
        explained=describe_explained_outputs(
            ALL_OUTPUTS if content.run.manifest is None else content.run.manifest.explained_outputs
        ),
        near=THRESHOLD_MARGIN,
        ungradable=str(Status.UNGRADABLE),
        under_review=UNDER_REVIEW,
        status_labels=STATUS_LABELS,
        reviewed=content.summary.reviews.get(ReviewState.READ, 0)
        + content.summary.reviews.get(ReviewState.ARBITRATED, 0),
    )
    return text.encode()


def format_time_range(began: datetime, ended: datetime) -> str:
    """Format two times in UTC, without repeating an equal day or time."""
    if f"{began:%F %R}" == f"{ended:%F %R}":
        return f"{began:%F %R} UTC"
    return f"{began:%F %R} to {ended:{'%R' if began.date() == ended.date() else '%F %R'}} UTC"


def format_commands(sentence: str) -> Markup:
    """Escape a sentence and mark text between backticks as code."""
    parts = [escape(part) for part in sentence.split("`")]
    return Markup("").join(Markup("<code>{}</code>").format(part) if at % 2 else part for at, part in enumerate(parts))


def _format_rate(per_second: float) -> str:
    return f"{per_second:,.1f} images/s" if per_second >= 1 else f"{60 * per_second:.1f} images/min"


def _page_data(content: PageContent) -> dict[str, Any]:
    referable, attention, waits = content.patient_columns
    return {
        "generation": content.generation,
        "columns": asdict(content.columns),
        "patients": {"referable": referable, "attention": attention, "waits": waits},
        "imagesPerPart": content.images_per_part,
        "patientsPerPart": content.patients_per_part,
        "gradeLabels": {str(int(grade)): label for grade, label in GRADE_LABELS.items()},
        "eyeLabels": _present_eyes(content.columns),
        "flagNotes": FLAG_NOTES,
        "nextSteps": dict(content.next_steps),
        "thresholds": [round(100 * threshold, 1) for threshold in content.run.thresholds[1:]],
    }


def _present_eyes(columns: FilterColumns) -> dict[str, str]:
    """Return the labels of the eyes that occur in the run, by their values."""
    present = set(columns.eye)
    return {str(eye): label for eye, label in EYE_LABELS.items() if eye[0] in present}


def _hash(text: str) -> str:
    """Return the source expression of an inline element for the Content-Security-Policy."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _scale(colours: str) -> str:
    """Return the CSS gradient of the colour scale, from weak to strong."""
    stops = ", ".join(f"rgb({r} {g} {b})" for r, g, b in load_colour_map(colours)[:: 255 // SCALE_STEPS].tolist())
    return f".scale {{ background: linear-gradient(to right, {stops}); }}\n"
