"""Turn templates into pages."""

from datetime import datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

from worker import __version__
from worker.console.labels import EYES, GRADE_WORDS, REMARKS, REVIEW_WORDS
from worker.core.terminal.output import duration


class Pages:
    """The templates of this package."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=PackageLoader("worker.console"),
            # Every template is HTML: file names, patient ids, errors and reasons come from strangers.
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {
            "moment": _moment,
            "thousands": lambda number: f"{number:,}",
            "file": lambda uri: uri.rpartition("/")[2],
            "duration": duration,
        }
        self._environment.globals |= {
            "version": __version__,
            "grade_words": GRADE_WORDS,
            "review_words": REVIEW_WORDS,
            "eyes": EYES,
            "remarks": REMARKS,
        }

    def render(self, template: str, *, status: int = 200, **content: Any) -> Response:
        """`person` None: nobody is signed in."""
        return HTMLResponse(self._environment.get_template(template).render(**content), status)


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
