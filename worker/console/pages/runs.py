"""The list of runs, and one run with its progress and its images."""

from typing import Any

from starlette.responses import RedirectResponse, Response

from worker.console.endpoints import Call, RefusedError
from worker.console.filters import Filter, parse_filter
from worker.console.image_list import COUNTED_AT_MOST, PAGE_IMAGES, read_page
from worker.console.reader_policy import readers_of, set_readers
from worker.console.reading_queue import count_reviews
from worker.core.errors import RunError
from worker.core.vocabulary import REFERABLE_FROM, Eye, Grade, Review, RunState, Status
from worker.ledger.database import read_transaction
from worker.ledger.runs import Run, find_run
from worker.ledger.status import RunProgress, read_overview, read_progress

RUNS_SHOWN = 20
MAX_DIGITS = 18
STOP_POLLING = 286
"""htmx asks no more after this status."""


def show_runs(call: Call) -> Response:
    """The latest runs, or up to RUNS_SHOWN before or after the one of a number."""
    before, after = _number(call, "before"), _number(call, "after")
    # One more than is shown says whether there is another page.
    found = read_overview(call.console.engine, RUNS_SHOWN + 1, before=before, after=after)
    more = len(found) > RUNS_SHOWN
    found = found[-RUNS_SHOWN:] if after is not None else found[:RUNS_SHOWN]
    newer, older = (more, bool(found)) if after is not None else (before is not None, more)
    overview = [
        (run, counts, sum(count for grade, count in counts.by_grade.items() if grade >= REFERABLE_FROM))
        for run, counts in found
    ]
    goes_on = any(run.state in (RunState.OPEN, RunState.RUNNING) for run, _, _ in overview)
    return call.render(
        "runs.html",
        overview=overview,
        shown=RUNS_SHOWN,
        goes_on=goes_on,
        newer=overview[0][0].run_id if newer and overview else None,
        older=overview[-1][0].run_id if older else None,
        is_first=before is None and after is None,
    )


def show_run(call: Call) -> Response:
    """Progress, the readings so far, and a page of the images that the filter asks for."""
    run = find(call)
    wanted = filter_of(call)
    engine = call.console.engine
    with read_transaction(engine) as connection:
        readers = readers_of(connection, run.run_id, call.console.settings.readers)
    return call.render(
        "run.html",
        readers=readers,
        page=read_page(engine, run.run_id, wanted, call.request.query_params),
        counted_at_most=COUNTED_AT_MOST,
        page_images=PAGE_IMAGES,
        wanted=wanted,
        choices={"grade": list(map(int, Grade)), "status": list(Status), "eye": list(Eye), "review": list(Review)},
        **_progress(call, run),
    )


def show_progress(call: Call) -> Response:
    """The part of a run's page that changes by itself."""
    content = _progress(call, find(call))
    progress: RunProgress = content["progress"]
    return call.render("progress.html", status=STOP_POLLING if progress.is_over else 200, **content)


def change_readers(call: Call) -> Response:
    """Set how many must read each image of the run."""
    run = find(call)
    readers = call.form.get("readers", "")
    if readers not in ("1", "2"):
        raise RefusedError(400, "One or two people read an image.")
    set_readers(call.console.engine, run, int(readers), call.person.name)
    return RedirectResponse(f"/runs/{run.name}", 303)


def find(call: Call) -> Run:
    """The run of the path. Raises RefusedError."""
    try:
        return find_run(call.console.engine, call.path("run"))
    except RunError:
        raise RefusedError(404, "There is no run of that name.") from None


def filter_of(call: Call) -> Filter:
    """What the address asks for. Raises RefusedError."""
    try:
        return parse_filter(call.request.query_params)
    except ValueError as error:
        raise RefusedError(400, f"This address asks for what there is not: {error}.") from None


def _number(call: Call, name: str) -> int | None:
    """A run's number of the address; None where it is not asked for. Raises RefusedError."""
    text = call.request.query_params.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < MAX_DIGITS):
        raise RefusedError(400, f"This address asks for what there is not: {name} is the number of a run.")
    return int(text)


def _progress(call: Call, run: Run) -> dict[str, Any]:
    progress = read_progress(call.console.engine, run.name)
    by_review = count_reviews(call.console.engine, run.run_id)
    return {
        "progress": progress,
        "run": progress.run,
        "referable": sum(count for grade, count in progress.counts.by_grade.items() if grade >= REFERABLE_FROM),
        "reviewed": by_review.get(Review.READ, 0) + by_review.get(Review.ARBITRATED, 0),
        "disputed": by_review.get(Review.DISPUTED, 0),
        "half_read": by_review.get(Review.HALF_READ, 0),
    }
