"""One image: its page, its photograph and its overlay."""

import time
from functools import cache
from typing import Any
from urllib.parse import quote

import numpy as np
from starlette.responses import RedirectResponse, Response

from worker.console.decisions import allowed_decision
from worker.console.disclosure import disclose, find_hidden_results, read_disclosure
from worker.console.endpoints import RefusedError, RequestContext
from worker.console.image_detail import ImageDetail, read_image_detail, read_patient_images
from worker.console.image_list import find_neighbours
from worker.console.pages.runs import parse_request_filter
from worker.console.photographs import FoundPhotograph
from worker.console.review_queue import LEASE_S, count_work_left, lease_holder
from worker.console.saved_notice import read_saved_notice, read_undone_decision
from worker.console.sessions import seal
from worker.core.clinical_labels import format_full_scale, format_grade
from worker.core.vocabulary import Picture, Role
from worker.imaging.colour_maps import NOTEBOOK_COLOUR_MAP
from worker.imaging.contours import PATH_SIDE
from worker.imaging.saliency_layer import SaliencyLayer
from worker.imaging.steps.overlay import TINTED_FROM, encode_overlay, render_scale
from worker.imaging.steps.thumbnail import encode_thumbnail
from worker.ledger.database import read_transaction
from worker.ledger.photograph_views import record_view
from worker.ledger.review_schema import MAX_REASON_CHARS
from worker.ledger.runs import select_run
from worker.ledger.site_acceptance import describe_missing_validation

RENEW_S = LEASE_S // 10
SCALE_PX = 240
UNGRADABLE = "ungradable"
"""Value of the form for a photograph without a grade."""


def show_image(context: RequestContext) -> Response:
    """Show the photograph, the model's result, the reviews and, to a grader, the review form.

    After an undo, the form holds the decision as it was.
    """
    image = find_image_or_404(context)
    undone = read_undone_decision(context, image)
    if undone is None:
        return render_image(context, image)
    return render_image(
        context,
        image,
        message=f"Undone: {format_grade(undone.grade)}. The image awaits your decision again.",
        grade=UNGRADABLE if undone.grade is None else str(undone.grade),
        reason=undone.reason,
        findings=undone.findings,
    )


def redirect_to_image(context: RequestContext) -> Response:
    """Redirect to the page of an image: a browser that reloads the answer to a form asks for the form's address."""
    image = find_image_or_404(context)
    return RedirectResponse(image_path(image.run, image.image_id), 303)


def render_image(
    context: RequestContext, image: ImageDetail, *, status: int = 200, message: str = "", **entered: Any
) -> Response:
    """Render the page of an image. `message` and `entered` restore a form that was refused or undone."""
    console, user = context.console, context.user
    engine = console.engine
    filters = parse_request_filter(context)
    shown = disclose(engine, image, user, console.settings.readers)
    with read_transaction(engine) as connection:
        run = select_run(connection, image.run)
        not_validated = describe_missing_validation(connection, run.site if run else None, image.model_id)
    hidden = find_hidden_results(shown.rule, user)
    before, after = find_neighbours(engine, image.run_id, filters, image.image_id, hidden)
    held_by = lease_holder(engine, image.run_id, image.image_id)
    found = console.photographs.find(image.source) if image.is_reviewable else FoundPhotograph(None)
    is_open = image.is_reviewable and not found.is_changed
    kind = allowed_decision(shown.decided, image.review, shown.rule.readers, user) if is_open else None
    kind = None if held_by not in (None, user.name) else kind
    return context.render(
        "image.html",
        status=status,
        image=image,
        before=before,
        after=after,
        filters=filters,
        history=shown.history,
        hides_result=shown.hides_result,
        shows_map=image.saliency is not None and not shown.hides_result,
        stands_out=image.strength > TINTED_FROM,
        full_scale=format_full_scale(None if image.evidence is None else image.evidence_scale),
        is_notebook=console.settings.overlay_colours == NOTEBOOK_COLOUR_MAP,
        blind=len(shown.visible) < len(shown.decided),
        last_seen=shown.visible[-1].decision_id if shown.visible else 0,
        photograph=found,
        kind=kind,
        held_by=held_by,
        mine=held_by == user.name,
        is_grader=user.role is Role.GRADER,
        renew_s=RENEW_S,
        max_reason=MAX_REASON_CHARS,
        patient=read_patient_images(engine, image, None if hidden is None else hidden.condition),
        not_validated=not_validated,
        message=message,
        entered={"grade": None, "reason": "", "findings": (), "opened": time.time_ns() // 10**6} | entered,
        sealed_result=seal(image.model_result, user.token),
        saved=read_saved_notice(context, image.run_id),
        work=count_work_left(engine, image.run_id, user) if user.role is Role.GRADER else None,
    )


def send_photograph(context: RequestContext) -> Response:
    """Send the photograph as a new JPEG at its own resolution, with the geometry of the overlay."""
    image = find_image_or_404(context)
    data = context.console.photographs.render(image.source)
    _record_view(context, image, Picture.PHOTOGRAPH)
    return Response(data, media_type="image/jpeg")


def send_thumbnail(context: RequestContext) -> Response:
    """Send a small picture of the photograph."""
    image = find_image_or_404(context)
    data = context.console.photographs.render_thumbnail(image.source)
    _record_view(context, image, Picture.PHOTOGRAPH)
    return Response(data, media_type="image/webp")


def send_map(context: RequestContext) -> Response:
    """Send the tint of the saliency map, which covers the square of the photograph; transparent if it has none."""
    image, layer = _render_map(context)
    _record_view(context, image, Picture.OVERLAY)
    return Response(layer.tint or _transparent_picture(), media_type="image/webp")


def send_contours(context: RequestContext) -> Response:
    """Send the contour lines of the saliency map as an SVG of the square of the photograph."""
    _, layer = _render_map(context)
    paths = "".join(f'<path class="{name}" d="{layer.contours}"/>' for name in ("casing", "line") if layer.contours)
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {PATH_SIDE} {PATH_SIDE}">{paths}</svg>'
    return Response(svg, media_type="image/svg+xml")


def send_scale(context: RequestContext) -> Response:
    """Send the scale of the saliency maps."""
    scale = render_scale(SCALE_PX, 1, context.console.settings.overlay_colours)
    return Response(encode_overlay(scale, "png", 0), media_type="image/png")


def send_overlay(context: RequestContext) -> Response:
    """Send the overlay that the worker stored."""
    image = find_image_or_404(context)
    if image.overlay_key is None:
        raise RefusedError(404, "This image has no overlay.")
    _require_disclosure(context, image)
    try:
        data, kind = context.console.photographs.read_overlay(image.overlay_key)
    except KeyError:
        raise RefusedError(404, "The overlay is no longer in the object store.") from None
    _record_view(context, image, Picture.OVERLAY)
    return Response(data, media_type=kind)


def image_path(run: str, image_id: str) -> str:
    """Return the path of the page of an image."""
    return f"/runs/{run}/images/{quote(image_id, safe='')}"


def find_image_or_404(context: RequestContext) -> ImageDetail:
    """Read the image that the path names. Raises RefusedError (404)."""
    image = read_image_detail(context.console.engine, context.path("run"), context.path("image_id"))
    if image is None:
        raise RefusedError(404, "This run has no such image.")
    return image


def _render_map(context: RequestContext) -> tuple[ImageDetail, SaliencyLayer]:
    image = find_image_or_404(context)
    if image.saliency is None:
        raise RefusedError(404, "This image has no map.")
    _require_disclosure(context, image)
    return image, context.console.photographs.render_map(image)


def _require_disclosure(context: RequestContext, image: ImageDetail) -> None:
    if read_disclosure(context.console.engine, image, context.user, context.console.settings.readers).hides_result:
        raise RefusedError(403, "The map is hidden until you have decided.")


@cache
def _transparent_picture() -> bytes:
    return encode_thumbnail(np.zeros((1, 1, 4), np.uint8), 1, 1)


def _record_view(context: RequestContext, image: ImageDetail, picture: Picture) -> None:
    engine, viewer = context.console.engine, context.user.name
    record_view(engine, viewer=viewer, run=image.run, image_id=image.image_id, picture=picture)
