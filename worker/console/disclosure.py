"""What a reader may see of an image before and after their own decision."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Engine, and_, exists, func

from worker.console.decisions import read_image_decisions, visible_decisions
from worker.console.image_detail import ImageDetail
from worker.console.reader_images import mark_seen, read_reader_image
from worker.console.reader_policy import ReadingRule, read_rule
from worker.console.sessions import SessionUser
from worker.core.vocabulary import ReviewState, Role
from worker.ledger.database import read_transaction, write_transaction
from worker.ledger.final_grades import ReviewDecision
from worker.ledger.review_schema import reader_images, reviews
from worker.ledger.schema import gradings


@dataclass(frozen=True, slots=True)
class Disclosure:
    """What a page may show to its user.

    decided: all decisions that count, oldest first. visible: those that the user may see. history: as `visible`, with
    the withdrawn ones. hides_result: the model's result and the reference grade stay hidden until the user decides.
    """

    rule: ReadingRule
    decided: Sequence[ReviewDecision]
    visible: Sequence[ReviewDecision]
    history: Sequence[ReviewDecision]
    hides_result: bool


@dataclass(frozen=True, slots=True)
class HiddenResults:
    """Images of a run whose model results are hidden from a reader: reviews in these states, unless seen before."""

    reader: str
    states: tuple[ReviewState, ...]

    @property
    def condition(self) -> ColumnElement[bool]:
        """SQL condition on `gradings`, outer-joined with `reviews`."""
        seen = exists().where(
            reader_images.c.run_id == gradings.c.run_id,
            reader_images.c.reader == self.reader,
            reader_images.c.image_id == gradings.c.image_id,
            reader_images.c.result_seen_at.is_not(None),
        )
        return and_(func.coalesce(reviews.c.state, ReviewState.UNREAD).in_(self.states), ~seen)


def find_hidden_results(rule: ReadingRule, user: SessionUser) -> HiddenResults | None:
    """Return which model results of a run a list hides from a user; None if it hides none."""
    if user.role is not Role.GRADER or not rule.may_hide:
        return None
    return HiddenResults(user.name, rule.hidden_states)


def read_disclosure(engine: Engine, image: ImageDetail, user: SessionUser, default_readers: int) -> Disclosure:
    """Return what a user may see of an image. Raises DatabaseError."""
    with read_transaction(engine) as connection:
        return _read(connection, image, user, default_readers)


def disclose(engine: Engine, image: ImageDetail, user: SessionUser, default_readers: int) -> Disclosure:
    """Return what a page shows to a user, and record what a reader sees for the first time. Raises DatabaseError."""
    found = read_disclosure(engine, image, user, default_readers)
    others = any(one.reader != user.name for one in found.visible)
    if user.role is Role.GRADER and (found.rule.may_hide or found.rule.readers > 1):
        result, decisions = not found.hides_result, others
        with read_transaction(engine) as connection:
            seen = read_reader_image(connection, image.run_id, image.image_id, user)
        if (result and not seen.has_seen_result) or (decisions and not seen.has_seen_decisions):
            with write_transaction(engine) as connection:
                mark_seen(connection, image.run_id, image.image_id, user, result=result, decisions=decisions)
    return found


def _read(connection: Connection, image: ImageDetail, user: SessionUser, default_readers: int) -> Disclosure:
    rule = read_rule(connection, image.run_id, default_readers)
    recorded = read_image_decisions(connection, image, withdrawn=True)
    decided = [one for one in recorded if one.withdrawn_at is None]
    has_decided = any(one.reader == user.name for one in decided)
    is_kept_back = user.role is Role.GRADER and rule.may_hide and image.review in rule.hidden_states and not has_decided
    return Disclosure(
        rule,
        decided,
        visible_decisions(decided, image.review, rule.readers, user),
        visible_decisions(recorded, image.review, rule.readers, user),
        is_kept_back and not read_reader_image(connection, image.run_id, image.image_id, user).has_seen_result,
    )
