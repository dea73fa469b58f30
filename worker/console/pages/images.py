"""One image: its page, its photograph and its overlay."""

from typing import Any

from starlette.responses import Response

from worker.console.decisions import decisions_on, kind_for, visible_to
from worker.console.endpoints import Call, RefusedError
from worker.console.image_detail import ReadImage, other_runs, read_image
from worker.console.image_list import neighbours
from worker.console.pages.runs import filter_of
from worker.console.reader_policy import readers_of
from worker.console.reading_queue import LEASE_S, holder
from worker.core.vocabulary import Role
from worker.ledger.database import read_transaction
from worker.ledger.review_schema import MAX_REASON_CHARS

RENEW_S = LEASE_S // 10


def show_image(call: Call) -> Response:
    """Photograph, what the model says, what people said, and for a grader the form."""
    return render_image(call, find_image(call))


def render_image(call: Call, image: ReadImage, *, status: int = 200, sentence: str = "", **kept: Any) -> Response:
    """The page; after a form that was refused, with the reason and what the form had said."""
    engine = call.console.engine
    wanted = filter_of(call)
    with read_transaction(engine) as connection:
        readers = readers_of(connection, image.run_id, call.console.settings.readers)
        decided = decisions_on(connection, image)
    visible = visible_to(decided, image.review, readers, call.person)
    before, after = neighbours(engine, image.run_id, wanted, image.image_id)
    held_by = holder(engine, image.run_id, image.image_id)
    kind = kind_for(decided, image.review, readers, call.person) if image.can_be_read else None
    return call.render(
        "image.html",
        status=status,
        image=image,
        before=before,
        after=after,
        wanted=wanted,
        readers=readers,
        decided=visible,
        blind=len(visible) < len(decided),
        last_seen=visible[-1].decision_id if visible else 0,
        kind=None if held_by not in (None, call.person.name) else kind,
        held_by=held_by,
        mine=held_by == call.person.name,
        is_grader=call.person.role is Role.GRADER,
        renew_s=RENEW_S,
        max_reason=MAX_REASON_CHARS,
        others=other_runs(engine, image),
        sentence=sentence,
        kept={"grade": None, "reason": ""} | kept,
    )


def send_photograph(call: Call) -> Response:
    """The photograph as a JPEG, drawn anew and laid out as the overlay is."""
    image = find_image(call)
    return Response(call.console.photographs.draw(image.source), media_type="image/jpeg")


def send_overlay(call: Call) -> Response:
    """The overlay as the worker drew it."""
    image = find_image(call)
    if image.overlay_key is None:
        raise RefusedError(404, "This image has no overlay.")
    try:
        data, kind = call.console.photographs.overlay(image.overlay_key)
    except KeyError:
        raise RefusedError(404, "The overlay is not in the store any more.") from None
    return Response(data, media_type=kind)


def find_image(call: Call) -> ReadImage:
    """The image of the path. Raises RefusedError."""
    image = read_image(call.console.engine, call.path("run"), call.path("image_id"))
    if image is None:
        raise RefusedError(404, "There is no such image in this run.")
    return image
