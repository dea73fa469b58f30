"""What a grader does: take the next image, keep it, decide."""

from starlette.responses import RedirectResponse, Response

from worker.console.decisions import ConflictError, Verdict, decide
from worker.console.endpoints import Call, RefusedError
from worker.console.pages.images import find_image, render_image
from worker.console.pages.runs import find
from worker.console.reading_queue import renew, take_next

UNGRADABLE = "ungradable"
GRADES = {str(grade): grade for grade in range(5)}


def give_next(call: Call) -> Response:
    """Lead the reader to the most urgent image that is nobody else's."""
    return _next(call, call.form.get("skip", ""))


def keep(call: Call) -> Response:
    """An open page says that somebody still reads it."""
    image = find_image(call)
    if renew(call.console.engine, image.run_id, image.image_id, call.person):
        return Response(status_code=204)
    raise RefusedError(409, "This image is no longer yours.")


def save(call: Call) -> Response:
    """Add a decision; what can't be added is shown again, with what was typed."""
    form = call.form
    grade, reason = form.get("grade", ""), form.get("reason", "").strip()
    kept = {"grade": grade, "reason": reason}
    if grade != UNGRADABLE and grade not in GRADES:
        return render_image(call, find_image(call), status=422, sentence="Choose a grade.", **kept)
    last_seen = form.get("last_seen", "")
    verdict = Verdict(
        grade=GRADES.get(grade),
        reason=reason,
        shown=form.get("shown", ""),
        last_seen=int(last_seen) if last_seen.isascii() and last_seen.isdigit() and len(last_seen) < 19 else 0,
    )
    run, image_id = call.path("run"), call.path("image_id")
    try:
        decide(call.console.engine, run, image_id, call.person, verdict, default_readers=call.console.settings.readers)
    except KeyError:
        raise RefusedError(404, "There is no such image in this run.") from None
    except ConflictError as error:
        return _again(call, 409, error.detail, kept)
    except ValueError as error:
        return _again(call, 422, str(error), kept)
    if form.get("then") == "next":
        return _next(call, "")
    query = f"?{call.request.url.query}" if call.request.url.query else ""
    return RedirectResponse(f"/runs/{run}/images/{image_id}{query}", 303)


def _next(call: Call, skip: str) -> Response:
    run = find(call)
    settings = call.console.settings
    chosen = take_next(call.console.engine, run, call.person, default_readers=settings.readers, skip=skip)
    if chosen is None:
        return call.render("nothing_left.html", run=run)
    return RedirectResponse(f"/runs/{run.name}/images/{chosen}", 303)


def _again(call: Call, status: int, detail: str, kept: dict[str, str]) -> Response:
    sentence = f"Not saved: {detail}."
    return render_image(call, find_image(call), status=status, sentence=sentence, **kept)
