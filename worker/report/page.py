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
from worker.core.clinical_labels import (
    EYE_CODES,
    EYE_LABELS,
    FLAG_NOTES,
    GRADE_LABELS,
    NOTHING_FOUND,
    OUTPUT_LABELS,
    SALIENCY,
    SCORE,
    THRESHOLD,
    format_full_scale,
)
from worker.core.image_name import shorten_patient_id
from worker.core.settings import Settings
from worker.core.vocabulary import REVIEW_MARGIN, Grade, ReviewState, Status
from worker.imaging.colour_maps import NOTEBOOK_COLOUR_MAP
from worker.imaging.steps.overlay import render_scale
from worker.ledger.configurations import UsedConfiguration
from worker.model.ordinal import ALL_OUTPUTS, describe_explained_outputs
from worker.report.columns import FilterColumns
from worker.report.headline import find_heat, format_headline, share_outcomes
from worker.report.parts import encode_for_script
from worker.report.patients import Patient
from worker.report.remedies import find_remedy
from worker.report.rows import UNDER_REVIEW
from worker.report.summary import ReportedRun, Summary

STATUS_LABELS = {UNDER_REVIEW: "awaiting reading"}
"""Labels of the statuses that are not displayed as stored."""
SCALE_STEPS = 24
LOGO = (
    '<svg xmlns="http://www.w3.org/2000/svg" class="logo" viewBox="0 0 32 32" width="24" height="24"'
    ' aria-hidden="true">'
    '<circle cx="16" cy="16" r="15" fill="#7a0f3a"/><circle cx="21" cy="15" r="3.5" fill="#f6d777"/>'
    '<path d="M21 15C17 8 11 7 6 9M21 15C16 22 11 24 6 22M21 15C24 11 27 11 29 12M21 15C24 19 27 20 29 19"'
    ' fill="none" stroke="#ed9a3a" stroke-width="1.6" stroke-linecap="round"/></svg>'
)
"""An eye's optic disc and vessels, in the colours of the grades."""


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
    style = (static / "report.css").read_text(encoding="utf-8")
    style += _scale(settings.overlay_colours) + _page_margins(content.run.name)
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
    environment.filters["patient"] = shorten_patient_id
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
        near=REVIEW_MARGIN,
        headline=format_headline(content.summary, content.patients),
        outcome_shares=share_outcomes(content.summary),
        heat=lambda reference, count: find_heat(content.summary, reference, count),
        nothing_found=NOTHING_FOUND,
        eye_codes=EYE_CODES,
        saliency_label=SALIENCY,
        is_notebook=settings.overlay_colours == NOTEBOOK_COLOUR_MAP,
        full_scale=_format_full_scale(content.summary),
        logo=Markup(LOGO),  # noqa: S704 - constant
        icon=f"data:image/svg+xml;base64,{b64encode(LOGO.encode()).decode()}",
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
        "nothingFound": NOTHING_FOUND,
        "outputLabels": {str(int(grade)): label for grade, label in OUTPUT_LABELS.items()},
        "words": {"score": SCORE, "threshold": THRESHOLD, "saliency": SALIENCY},
        "eyeCodes": EYE_CODES,
        "urgent": content.urgent_count,
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
    """Return the CSS gradient of the scale of the areas, from none to strong, on the colour of a retina."""
    row = render_scale(SCALE_STEPS * 10, 1, colours)[0].tolist()
    places = range(0, len(row), 2)
    stops = ", ".join(f"rgb({' '.join(map(str, row[at]))}) {100 * at / len(row):.1f}%" for at in places)
    return f".scale {{ background: linear-gradient(to right, {stops}); }}\n"


def _page_margins(run: str) -> str:
    """Return the CSS that prints the name of the run and the page number on every page."""
    escaped = "".join(f"\\{ord(character):x} " if not character.isalnum() else character for character in run)
    return (
        f'@page {{ @top-left {{ content: "{escaped}"; }} @bottom-left {{ content: "Not a medical device"; }}'
        ' @bottom-right { content: counter(page) " / " counter(pages); } }\n'
    )


def _format_full_scale(summary: Summary) -> str:
    """Describe the evidence that is shown at full strength."""
    return format_full_scale(summary.evidence_scales[0]) if len(summary.evidence_scales) == 1 else "full scale"
