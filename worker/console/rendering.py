"""Render the HTML templates of the console."""

from datetime import datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

from worker import __version__
from worker.console.labels import REVIEW_LABELS
from worker.core.clinical_labels import (
    EYE_LABELS,
    FINDING_LABELS,
    FLAG_NOTES,
    GRADE_LABELS,
    NOTHING_FOUND,
    OUTPUT_LABELS,
    SALIENCY,
    format_awaiting_reading,
    format_ungraded,
)
from worker.core.image_name import name_below, shorten_patient_id
from worker.core.terminal.output import format_duration
from worker.ledger.final_grades import DECIDED_STATES, PENDING_STATES


class TemplateRenderer:
    """Jinja2 environment with the templates of this package. Every value is escaped."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=PackageLoader("worker.console"),
            # Escape everything: file names, patient ids, errors and reasons are untrusted.
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {
            "moment": _format_time,
            "thousands": lambda number: f"{number:,}",
            "file": name_below,
            "duration": format_duration,
        }
        self._environment.filters["patient"] = shorten_patient_id
        self._environment.globals |= {
            "version": __version__,
            "grade_labels": {int(grade): label for grade, label in GRADE_LABELS.items()},
            "review_labels": REVIEW_LABELS,
            "finding_labels": FINDING_LABELS,
            "decided_states": DECIDED_STATES,
            "pending_states": PENDING_STATES,
            "awaiting_reading": format_awaiting_reading,
            "eye_labels": EYE_LABELS,
            "flag_notes": FLAG_NOTES,
            "nothing_found": NOTHING_FOUND,
            "output_labels": {int(grade): label for grade, label in OUTPUT_LABELS.items()},
            "saliency_label": SALIENCY,
            "ungraded": format_ungraded,
        }

    def render(self, template: str, *, status: int = 200, **content: Any) -> Response:
        """Render a template. `content` must hold `user`: None if nobody is signed in."""
        return HTMLResponse(self._environment.get_template(template).render(**content), status)


def _format_time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
