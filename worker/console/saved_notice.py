"""What the page that follows a decision, a skip or an undo says about it."""

from dataclasses import dataclass

from sqlalchemy import select

from worker.console.decisions import read_image_decisions
from worker.console.endpoints import RequestContext
from worker.console.image_detail import ImageDetail
from worker.ledger.database import read_transaction
from worker.ledger.final_grades import ReviewDecision, is_standing
from worker.ledger.review_schema import decisions
from worker.ledger.schema import gradings, images

MAX_DIGITS = 18


@dataclass(frozen=True, slots=True)
class SavedNotice:
    """The image before. decision_id, grade: of the decision that can be undone; decision_id is None for a skip."""

    image_id: str
    uri: str
    decision_id: int | None = None
    grade: int | None = None


def read_saved_notice(context: RequestContext, run_id: int) -> SavedNotice | None:
    """Read the decision that the query parameter `saved` names, or the image that `skipped` names; None if neither."""
    query = context.request.query_params
    saved, skipped = query.get("saved", ""), query.get("skipped", "")
    if saved.isascii() and saved.isdigit() and len(saved) <= MAX_DIGITS:
        return _read_decision(context, run_id, int(saved))
    return _read_skipped(context, run_id, skipped) if skipped else None


def read_undone_decision(context: RequestContext, image: ImageDetail) -> ReviewDecision | None:
    """Read the decision that the query parameter `undone` names; None unless it is the user's latest, and withdrawn."""
    undone = context.request.query_params.get("undone", "")
    if not undone:
        return None
    with read_transaction(context.console.engine) as connection:
        recorded = read_image_decisions(connection, image, withdrawn=True)
    latest = next((one for one in reversed(recorded) if one.reader == context.user.name), None)
    return latest if latest and latest.withdrawn_at is not None and str(latest.decision_id) == undone else None


def _read_decision(context: RequestContext, run_id: int, decision_id: int) -> SavedNotice | None:
    found = (
        select(decisions.c.image_id, images.c.uri, decisions.c.decision_id, decisions.c.grade)
        .join(images, images.c.image_id == decisions.c.image_id)
        .where(
            decisions.c.decision_id == decision_id,
            decisions.c.run_id == run_id,
            decisions.c.reader == context.user.name,
            is_standing(),
        )
    )
    with read_transaction(context.console.engine) as connection:
        row = connection.execute(found).first()
    return None if row is None else SavedNotice(*row)


def _read_skipped(context: RequestContext, run_id: int, image_id: str) -> SavedNotice | None:
    found = (
        select(images.c.image_id, images.c.uri)
        .join(gradings, gradings.c.image_id == images.c.image_id)
        .where(gradings.c.run_id == run_id, gradings.c.image_id == image_id)
    )
    with read_transaction(context.console.engine) as connection:
        row = connection.execute(found).first()
    return None if row is None else SavedNotice(*row)
