"""Actions of a grader: open the next image, keep its lease, save a decision and undo it."""

import re
import time
from typing import Any
from urllib.parse import urlencode

from starlette.responses import RedirectResponse, Response

from worker.console.decisions import NOT_GRADED, ConflictError, ReviewForm, record_decision
from worker.console.endpoints import RefusedError, RequestContext
from worker.console.image_detail import ImageDetail
from worker.console.pages.images import UNGRADABLE, find_image_or_404, image_path, render_image
from worker.console.pages.runs import find_run_or_404
from worker.console.review_queue import count_work_left, lease_next_image, renew_lease
from worker.console.saved_notice import read_saved_notice
from worker.console.sessions import seal
from worker.console.withdrawals import withdraw_decision
from worker.core.vocabulary import Finding

SHA256 = re.compile("[0-9a-f]{64}")
MAX_READING_S = 3600.0
"""A page that was open for longer does not give the time of a reading."""
GRADES = {str(grade): grade for grade in range(5)}


def open_next_image(context: RequestContext) -> Response:
    """Redirect the grader to the most urgent image that no other grader holds."""
    return _redirect_to_next(context, skip=context.form.get("skip", ""))


def renew_image_lease(context: RequestContext) -> Response:
    """Renew the lease of an image whose page is open: 204, or 409 if the lease was lost."""
    image = find_image_or_404(context)
    if renew_lease(context.console.engine, image.run_id, image.image_id, context.user):
        return Response(status_code=204)
    raise RefusedError(409, "This image is no longer assigned to you.")


def save_decision(context: RequestContext) -> Response:
    """Record the decision of a form. If it is refused, show the form again with the reason and the values entered."""
    form = context.form
    grade, reason = form.get("grade", ""), form.get("reason", "").strip()
    findings = tuple(finding for finding in Finding if form.get(finding) == "yes")
    entered = {"grade": grade, "reason": reason, "findings": findings, "opened": form.get("opened", "")}
    if grade != UNGRADABLE and grade not in GRADES:
        return render_image(context, find_image_or_404(context), status=422, message="Select a grade.", **entered)
    image = find_image_or_404(context)
    try:
        review = ReviewForm(
            grade=GRADES.get(grade),
            reason=reason,
            shown=image.model_result if form.get("shown") == seal(image.model_result, context.user.token) else "",
            last_seen=_parse_number(form.get("last_seen", "")) or 0,
            photograph=_find_shown_photograph(context, image),
            findings=findings,
            unassisted=form.get("unassisted") == "yes",
            seconds=_find_seconds(form.get("opened", "")),
        )
        decision_id = record_decision(
            context.console.engine,
            image.run,
            image.image_id,
            context.user,
            review,
            default_readers=context.console.settings.readers,
            publish=context.console.settings.publication_kinds,
        )
    except KeyError:
        raise RefusedError(404, "This run has no such image.") from None
    except ConflictError as error:
        return _show_refused_form(context, 409, error.detail, entered)
    except ValueError as error:
        return _show_refused_form(context, 422, str(error), entered)
    if form.get("then") == "next":
        return _redirect_to_next(context, saved=decision_id)
    query = f"{context.request.url.query}&" if context.request.url.query else ""
    return RedirectResponse(f"{image_path(image.run, image.image_id)}?{query}saved={decision_id}", 303)


def undo_decision(context: RequestContext) -> Response:
    """Withdraw a decision of the user and redirect to its image with the form as it was."""
    image = find_image_or_404(context)
    try:
        undone = withdraw_decision(
            context.console.engine,
            image.run,
            image.image_id,
            context.user,
            _parse_number(context.form.get("decision", "")) or 0,
            default_readers=context.console.settings.readers,
            publish=context.console.settings.publication_kinds,
        )
    except KeyError:
        raise RefusedError(404, "This run has no such image.") from None
    except ConflictError as error:
        return render_image(context, image, status=409, message=f"Not undone: {error.detail}.")
    # Redirected, so that the browser can reload the page and go back to it.
    return RedirectResponse(f"{image_path(image.run, image.image_id)}?undone={undone.decision_id}", 303)


def _find_shown_photograph(context: RequestContext, image: ImageDetail) -> str | None:
    """Return the SHA-256 of the photograph that the form's page displayed; None if it displayed none.

    Raises ConflictError if the photograph has been replaced, since it was graded or since the page was opened.
    """
    found = context.console.photographs.find(image.source)
    if found.is_changed:
        raise ConflictError(NOT_GRADED)
    shown = context.form.get("photograph", found.sha256)
    if not shown or not SHA256.fullmatch(shown):
        return None
    if found.sha256 not in (None, shown):
        raise ConflictError("the photograph has changed since you opened it: check the new one")
    return shown


def _redirect_to_next(context: RequestContext, *, skip: str = "", saved: int | None = None) -> Response:
    run = find_run_or_404(context)
    settings, engine, user = context.console.settings, context.console.engine, context.user
    chosen = lease_next_image(engine, run, user, default_readers=settings.readers, skip=skip)
    query = urlencode({"skipped": skip} if skip else {} if saved is None else {"saved": saved})
    path = f"/runs/{run.name}/done" if chosen is None else image_path(run.name, chosen)
    return RedirectResponse(f"{path}?{query}" if query else path, 303)


def show_done(context: RequestContext) -> Response:
    """Say that no image is left to the grader."""
    run = find_run_or_404(context)
    saved = read_saved_notice(context, run.run_id)
    work = count_work_left(context.console.engine, run.run_id, context.user)
    return context.render("no_images_left.html", run=run, saved=saved, work=work)


def _parse_number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _find_seconds(opened: str) -> float | None:
    """Return the time since a page was opened, at Unix time `opened` in ms; None if it is unknown or too long ago."""
    at = _parse_number(opened)
    seconds = None if at is None else time.time() - at / 1000
    return seconds if seconds is not None and 0 <= seconds <= MAX_READING_S else None


def _show_refused_form(context: RequestContext, status: int, detail: str, entered: dict[str, Any]) -> Response:
    message = f"Not saved: {detail}."
    return render_image(context, find_image_or_404(context), status=status, message=message, **entered)
