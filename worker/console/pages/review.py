"""Actions of a grader: open the next image, keep its lease, save a decision."""

import re

from starlette.responses import RedirectResponse, Response

from worker.console.decisions import NOT_GRADED, ConflictError, ReviewForm, record_decision
from worker.console.endpoints import RefusedError, RequestContext
from worker.console.image_detail import ImageDetail
from worker.console.pages.images import find_image_or_404, render_image
from worker.console.pages.runs import find_run_or_404
from worker.console.review_queue import lease_next_image, renew_lease

UNGRADABLE = "ungradable"
SHA256 = re.compile("[0-9a-f]{64}")
GRADES = {str(grade): grade for grade in range(5)}


def open_next_image(context: RequestContext) -> Response:
    """Redirect the grader to the most urgent image that no other grader holds."""
    return _redirect_to_next(context, context.form.get("skip", ""))


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
    entered = {"grade": grade, "reason": reason}
    if grade != UNGRADABLE and grade not in GRADES:
        return render_image(context, find_image_or_404(context), status=422, message="Select a grade.", **entered)
    image = find_image_or_404(context)
    last_seen = form.get("last_seen", "")
    try:
        review = ReviewForm(
            grade=GRADES.get(grade),
            reason=reason,
            shown=form.get("shown", ""),
            last_seen=int(last_seen) if last_seen.isascii() and last_seen.isdigit() and len(last_seen) < 19 else 0,
            photograph=_find_shown_photograph(context, image),
        )
        record_decision(
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
        return _redirect_to_next(context, "")
    query = f"?{context.request.url.query}" if context.request.url.query else ""
    return RedirectResponse(f"/runs/{image.run}/images/{image.image_id}{query}", 303)


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


def _redirect_to_next(context: RequestContext, skip: str) -> Response:
    run = find_run_or_404(context)
    settings = context.console.settings
    chosen = lease_next_image(context.console.engine, run, context.user, default_readers=settings.readers, skip=skip)
    if chosen is None:
        return context.render("no_images_left.html", run=run)
    return RedirectResponse(f"/runs/{run.name}/images/{chosen}", 303)


def _show_refused_form(context: RequestContext, status: int, detail: str, entered: dict[str, str]) -> Response:
    message = f"Not saved: {detail}."
    return render_image(context, find_image_or_404(context), status=status, message=message, **entered)
