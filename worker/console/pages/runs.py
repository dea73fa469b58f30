"""The list of runs, and one run with its progress and its images."""

from dataclasses import replace
from typing import Any

from starlette.responses import RedirectResponse, Response

from worker.console.disclosure import find_hidden_results
from worker.console.endpoints import RefusedError, RequestContext
from worker.console.filters import ImageFilter, parse_filter
from worker.console.image_list import COUNTED_AT_MOST, PAGE_IMAGES, read_page
from worker.console.labels import ASSISTANCE_LABELS
from worker.console.reader_policy import read_rule, set_assistance, set_reader_count
from worker.console.review_queue import count_reviews
from worker.core.errors import RunError
from worker.core.manifests.admission import hash_patient_id
from worker.core.vocabulary import REFERABLE_FROM, Assistance, Eye, Grade, ReviewState, RunState, Status
from worker.ledger.database import read_transaction
from worker.ledger.runs import Run, find_run
from worker.ledger.status import RunProgress, read_overview, read_progress

RUNS_SHOWN = 20
MAX_DIGITS = 18
STOP_POLLING = 286
"""HTTP status after which htmx stops polling."""


def show_runs(context: RequestContext) -> Response:
    """List the latest runs, or a page of RUNS_SHOWN before or after the run id in the query."""
    before, after = _parse_run_id(context, "before"), _parse_run_id(context, "after")
    # One more than a page holds: its presence means that there is another page.
    found = read_overview(context.console.engine, RUNS_SHOWN + 1, before=before, after=after)
    more = len(found) > RUNS_SHOWN
    found = found[-RUNS_SHOWN:] if after is not None else found[:RUNS_SHOWN]
    newer, older = (more, bool(found)) if after is not None else (before is not None, more)
    overview = [
        (run, counts, sum(count for grade, count in counts.by_grade.items() if grade >= REFERABLE_FROM))
        for run, counts in found
    ]
    is_active = any(run.state in (RunState.OPEN, RunState.RUNNING) for run, _, _ in overview)
    return context.render(
        "runs.html",
        overview=overview,
        shown=RUNS_SHOWN,
        is_active=is_active,
        newer=overview[0][0].run_id if newer and overview else None,
        older=overview[-1][0].run_id if older else None,
        is_first=before is None and after is None,
    )


def show_run(context: RequestContext) -> Response:
    """Show a run: its progress, its review counts and a page of the images that match the filter."""
    run = find_run_or_404(context)
    filters = parse_request_filter(context)
    engine = context.console.engine
    with read_transaction(engine) as connection:
        rule = read_rule(connection, run.run_id, context.console.settings.readers)
    hidden = find_hidden_results(rule, context.user)
    return context.render(
        "run.html",
        rule=rule,
        hides_results=hidden is not None,
        assistance_labels=ASSISTANCE_LABELS,
        page=read_page(engine, run.run_id, filters, context.request.query_params, hidden),
        counted_at_most=COUNTED_AT_MOST,
        page_images=PAGE_IMAGES,
        filters=filters,
        choices={"grade": list(map(int, Grade)), "status": list(Status), "eye": list(Eye), "review": list(ReviewState)},
        **_progress(context, run),
    )


def show_progress(context: RequestContext) -> Response:
    """Render the progress fragment that the run page polls."""
    content = _progress(context, find_run_or_404(context))
    progress: RunProgress = content["progress"]
    return context.render("progress.html", status=STOP_POLLING if progress.is_over else 200, **content)


def change_reader_count(context: RequestContext) -> Response:
    """Set how many readers must review each image of the run."""
    run = find_run_or_404(context)
    readers = context.form.get("readers", "")
    if readers not in ("1", "2"):
        raise RefusedError(400, "The number of readers must be 1 or 2.")
    set_reader_count(
        context.console.engine,
        run,
        int(readers),
        context.user.name,
        publish=context.console.settings.publication_kinds,
    )
    return RedirectResponse(f"/runs/{run.name}", 303)


def change_assistance(context: RequestContext) -> Response:
    """Set which readers of the run see the model's result before they decide."""
    run = find_run_or_404(context)
    given = context.form.get("assistance", "")
    if given not in list(Assistance):
        raise RefusedError(400, f"The assistance must be one of {', '.join(Assistance)}.")
    readers = context.console.settings.readers
    set_assistance(context.console.engine, run, Assistance(given), context.user.name, default_readers=readers)
    return RedirectResponse(f"/runs/{run.name}", 303)


def find_run_or_404(context: RequestContext) -> Run:
    """Find the run that the path names. Raises RefusedError (404)."""
    try:
        return find_run(context.console.engine, context.path("run"))
    except RunError:
        raise RefusedError(404, "There is no run with this name.") from None


def parse_request_filter(context: RequestContext) -> ImageFilter:
    """Parse the filter in the query string. Raises RefusedError (400)."""
    try:
        found = parse_filter(context.request.query_params)
    except ValueError as error:
        raise RefusedError(400, f"Invalid filter: {error}.") from None
    key = context.console.settings.patient_key
    return replace(found, pseudonym=hash_patient_id(found.q, key)) if found.q and key is not None else found


def _parse_run_id(context: RequestContext, name: str) -> int | None:
    """Parse a run id in the query string; None if it is absent. Raises RefusedError (400)."""
    text = context.request.query_params.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < MAX_DIGITS):
        raise RefusedError(400, f"Invalid query: {name} must be a run id.")
    return int(text)


def _progress(context: RequestContext, run: Run) -> dict[str, Any]:
    progress = read_progress(context.console.engine, run.name, overall=False)
    by_review = count_reviews(context.console.engine, run.run_id)
    return {
        "progress": progress,
        "run": progress.run,
        "referable": sum(count for grade, count in progress.counts.by_grade.items() if grade >= REFERABLE_FROM),
        "reviewed": by_review.get(ReviewState.READ, 0) + by_review.get(ReviewState.ARBITRATED, 0),
        "disputed": by_review.get(ReviewState.DISPUTED, 0),
        "half_read": by_review.get(ReviewState.HALF_READ, 0),
    }
