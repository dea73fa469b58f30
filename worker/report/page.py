"""The one page of a report: what it says at once, and what its script needs for the rest."""

import json
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
from worker.core.settings import Settings
from worker.core.vocabulary import REFERABLE_FROM, THRESHOLD_MARGIN, Eye, Flag, Grade, ReviewState, Status
from worker.imaging.steps.overlay import load_colour_map
from worker.model.ordinal import ALL_OUTPUTS, describe_explained_outputs
from worker.report.columns import FilterColumns
from worker.report.patients import ATTENTION, Patient
from worker.report.remedies import find_remedy
from worker.report.rows import UNDER_REVIEW
from worker.report.summary import ReportedRun, Summary

WORDS = {
    Grade.NO_DR: "No DR",
    Grade.MILD: "Mild",
    Grade.MODERATE: "Moderate",
    Grade.SEVERE: "Severe",
    Grade.PROLIFERATIVE: "Proliferative",
}
EYES = {Eye.RIGHT: "Right eye", Eye.LEFT: "Left eye", Eye.UNKNOWN: "Eye not named"}
REMARKS = {
    Flag.NO_OUTPUT_PASSED: "No output passed its threshold.",
    Flag.NOT_MONOTONE: "The chances do not fall from grade to grade: look twice.",
    Flag.NO_EVIDENCE: "Nothing in the photograph speaks for the grade: look twice.",
}
SCALE_STEPS = 15


@dataclass(frozen=True, slots=True)
class PageContent:
    """All that the page says; `baseline` is the other run's name and its shares of the grades."""

    run: ReportedRun
    summary: Summary
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
    """The page, UTF-8. `parts`: those that it has to hold, name and JSON without `<`."""
    static = files("worker.report") / "static"
    style = (static / "report.css").read_text(encoding="utf-8") + _scale(settings.overlay_colours)
    script = (static / "report.js").read_text(encoding="utf-8")
    environment = Environment(
        loader=PackageLoader("worker.report"),
        # The template is HTML: file names, patient ids and errors come from strangers.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["moment"] = lambda at: f"{at:%Y-%m-%d %H:%M} UTC"
    environment.filters["commands"] = format_commands
    environment.filters["thousands"] = lambda number: f"{number:,}"
    environment.filters["percent"] = lambda fraction: f"{100 * fraction:.1f}"
    environment.filters["rate"] = _rate
    text = environment.get_template("index.html").render(
        **{field: getattr(content, field) for field in content.__dataclass_fields__},
        about=_embedded(_about(content)),
        parts=[(name, Markup(text)) for name, text in parts],  # noqa: S704 - escaped where it was made
        style=Markup(style),  # noqa: S704 - our own
        script=Markup(script),  # noqa: S704 - our own
        style_hash=_hash(style),
        script_hash=_hash(script),
        version=__version__,
        settings=settings,
        time_range=format_time_range,
        words={int(grade): word for grade, word in WORDS.items()},
        eyes=_eyes(content.columns),
        referable_from=int(REFERABLE_FROM),
        attention=ATTENTION,
        find_remedy=find_remedy,
        explained=describe_explained_outputs(
            ALL_OUTPUTS if content.run.manifest is None else content.run.manifest.explained_outputs
        ),
        near=THRESHOLD_MARGIN,
        ungradable=str(Status.UNGRADABLE),
        under_review=UNDER_REVIEW,
        finished=content.summary.reviews.get(ReviewState.READ, 0)
        + content.summary.reviews.get(ReviewState.ARBITRATED, 0),
    )
    return text.encode()


def format_time_range(began: datetime, ended: datetime) -> str:
    """Both moments, the day and the time once where they are the same."""
    if f"{began:%F %R}" == f"{ended:%F %R}":
        return f"{began:%F %R} UTC"
    return f"{began:%F %R} to {ended:{'%R' if began.date() == ended.date() else '%F %R'}} UTC"


def format_commands(sentence: str) -> Markup:
    """What stands between backticks as code."""
    parts = [escape(part) for part in sentence.split("`")]
    return Markup("").join(Markup("<code>{}</code>").format(part) if at % 2 else part for at, part in enumerate(parts))


def _rate(per_second: float) -> str:
    return f"{per_second:,.1f} images/s" if per_second >= 1 else f"{60 * per_second:.1f} images/min"


def _about(content: PageContent) -> dict[str, Any]:
    grades, attention, waits = content.patient_columns
    return {
        "generation": content.generation,
        "columns": asdict(content.columns),
        "patients": {"grade": grades, "attention": attention, "waits": waits},
        "imagesPerPart": content.images_per_part,
        "patientsPerPart": content.patients_per_part,
        "words": {str(int(grade)): word for grade, word in WORDS.items()},
        "eyes": _eyes(content.columns),
        "remarks": REMARKS,
        "nextSteps": dict(content.next_steps),
        "referableFrom": int(REFERABLE_FROM),
        "thresholds": [round(100 * threshold, 1) for threshold in content.run.thresholds[1:]],
    }


def _eyes(columns: FilterColumns) -> dict[str, str]:
    """Headings of the eyes that the run has, by their words."""
    present = set(columns.eye)
    return {str(eye): words for eye, words in EYES.items() if eye[0] in present}


def _embedded(value: Any) -> Markup:
    """JSON that can stand in a script element: no `<` in it could end that."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # noqa: S704 - just escaped


def _hash(text: str) -> str:
    """As a Content-Security-Policy names what it lets through."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _scale(colours: str) -> str:
    """The legend's colours, from little to much."""
    stops = ", ".join(f"rgb({r} {g} {b})" for r, g, b in load_colour_map(colours)[:: 255 // SCALE_STEPS].tolist())
    return f".scale {{ background: linear-gradient(to right, {stops}); }}\n"
