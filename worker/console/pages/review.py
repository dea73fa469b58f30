"""Actions of a grader: open the next image, keep its lease, save a decision."""

from starlette.responses import RedirectResponse, Response

from worker.console.decisions import ConflictError, ReviewForm, record_decision
from worker.console.endpoints import RefusedError, RequestContext
from worker.console.pages.images import find_image_or_404, render_image
from worker.console.pages.runs import find_run_or_404
from worker.console.review_queue import lease_next_image, renew_lease

UNGRADABLE = "ungradable"
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
    last_seen = form.get("last_seen", "")
    review = ReviewForm(
        grade=GRADES.get(grade),
        reason=reason,
        shown=form.get("shown", ""),
        last_seen=int(last_seen) if last_seen.isascii() and last_seen.isdigit() and len(last_seen) < 19 else 0,
    )
    console, run, image_id = context.console, context.path("run"), context.path("image_id")
    try:
        record_decision(console.engine, run, image_id, context.user, review, default_readers=console.settings.readers)
    except KeyError:
        raise RefusedError(404, "This run has no such image.") from None
    except ConflictError as error:
        return _show_refused_form(context, 409, error.detail, entered)
    except ValueError as error:
        return _show_refused_form(context, 422, str(error), entered)
    if form.get("then") == "next":
        return _redirect_to_next(context, "")
    query = f"?{context.request.url.query}" if context.request.url.query else ""
    return RedirectResponse(f"/runs/{run}/images/{image_id}{query}", 303)


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
