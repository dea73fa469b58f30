"""The outbox of a whole run: enqueue what is missing, preview it, and count what is published."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from worker.core.vocabulary import PublicationKind, PublicationState
from worker.ledger.database import write_transaction
from worker.ledger.final_grades import DECIDED_STATES, is_standing
from worker.ledger.outbox import (
    PUBLISHED_STATUSES,
    Publication,
    enqueue_decision,
    enqueue_outcomes,
    retry_refused,
)
from worker.ledger.outbox_schema import outbox
from worker.ledger.published_outcomes import PublishedOutcome, select_published_outcome
from worker.ledger.review_schema import decisions, reviews
from worker.ledger.schema import gradings

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from sqlalchemy import Connection, Engine

    from worker.ledger.runs import Run

PAGE_IMAGES = 500
UNSETTLED = (PublicationState.PENDING, PublicationState.REFUSED)


@dataclass(frozen=True, slots=True)
class Preview:
    """An object as it would be published. state: PENDING also for one that is not enqueued yet."""

    outcome: PublishedOutcome
    state: PublicationState


def enqueue_run(engine: Engine, run: Run, kinds: Collection[PublicationKind]) -> int:
    """Enqueue what is missing of a run, and retry what was refused.

    Returns the number of objects added. Raises DatabaseError.
    """
    added, after = 0, ""
    while True:
        with write_transaction(engine) as connection:
            page = _read_page(connection, run, after)
            if not page:
                retry_refused(connection, run.run_id, kinds)
                return added
            added += _enqueue_page(connection, run, page, kinds)
        after = page[-1]


def preview_run(engine: Engine, run: Run, kinds: Collection[PublicationKind]) -> Iterator[Preview]:
    """Yield each object of a run as `enqueue_run` and a publisher would publish it; nothing is changed.

    Raises DatabaseError.
    """
    after = ""
    while True:
        # Enqueued and rolled back, so that a preview is what would be published.
        with write_transaction(engine) as connection:
            page = _read_page(connection, run, after)
            _enqueue_page(connection, run, page, kinds)
            found = _read_previews(connection, run, page, kinds)
            connection.rollback()
        if not page:
            return
        yield from found
        after = page[-1]


def count_publications(
    connection: Connection, run_ids: Sequence[int]
) -> Mapping[PublicationKind, Mapping[PublicationState, int]]:
    """Return the number of objects of these runs by kind and state; only kinds and states that occur."""
    query = (
        select(outbox.c.kind, outbox.c.state, func.count().label("objects"))
        .where(outbox.c.run_id.in_(run_ids))
        .group_by(outbox.c.kind, outbox.c.state)
    )
    counts: dict[PublicationKind, dict[PublicationState, int]] = defaultdict(dict)
    for row in connection.execute(query):
        counts[PublicationKind(row.kind)][PublicationState(row.state)] = row.objects
    return {kind: counts[kind] for kind in PublicationKind if kind in counts}


def describe_publications(counts: Mapping[PublicationKind, Mapping[PublicationState, int]]) -> str | None:
    """Describe the counts of `count_publications` in one line; None if nothing is in the outbox."""
    parts = []
    for kind, by_state in counts.items():
        wanted = sum(by_state.values()) - by_state.get(PublicationState.SUPERSEDED, 0)
        words = f"{kind} {by_state.get(PublicationState.PUBLISHED, 0):,} of {wanted:,}"
        refused = by_state.get(PublicationState.REFUSED, 0)
        parts.append(words + (f" ({refused:,} refused)" if refused else ""))
    return ", ".join(parts) or None


def count_publication_errors(connection: Connection, run_id: int) -> Mapping[str, int]:
    """Return the number of objects of a run that are refused or wait after a failure, by error code."""
    objects = func.count().label("objects")
    query = (
        select(outbox.c.error_code, objects)
        .where(outbox.c.run_id == run_id, outbox.c.state.in_(UNSETTLED), outbox.c.error_code.is_not(None))
        .group_by(outbox.c.error_code)
        .order_by(objects.desc(), outbox.c.error_code)
    )
    return {row.error_code: row.objects for row in connection.execute(query)}


def _read_page(connection: Connection, run: Run, after: str) -> Sequence[str]:
    query = (
        select(gradings.c.image_id)
        .where(
            gradings.c.run_id == run.run_id,
            gradings.c.status.in_(PUBLISHED_STATUSES),
            gradings.c.image_id > after,
        )
        .order_by(gradings.c.image_id)
        .limit(PAGE_IMAGES)
    )
    return connection.scalars(query).all()


def _enqueue_page(connection: Connection, run: Run, page: Sequence[str], kinds: Collection[PublicationKind]) -> int:
    added = enqueue_outcomes(connection, run.run_id, page, kinds)
    last = (
        select(reviews.c.image_id, func.max(decisions.c.decision_id).label("decision_id"))
        .join(decisions, (decisions.c.run_id == reviews.c.run_id) & (decisions.c.image_id == reviews.c.image_id))
        .where(
            reviews.c.run_id == run.run_id,
            reviews.c.image_id.in_(page),
            reviews.c.state.in_(DECIDED_STATES),
            decisions.c.run == run.name,
            is_standing(),
        )
        .group_by(reviews.c.image_id)
    )
    for row in connection.execute(last).all():
        added += enqueue_decision(connection, run.run_id, row.image_id, row.decision_id, kinds)
    return added


def _read_previews(
    connection: Connection, run: Run, page: Sequence[str], kinds: Collection[PublicationKind]
) -> list[Preview]:
    columns = (outbox.c[name] for name in Publication.__dataclass_fields__)
    query = (
        select(*columns, outbox.c.state)
        .where(outbox.c.run_id == run.run_id, outbox.c.image_id.in_(page), outbox.c.kind.in_(kinds))
        .order_by(outbox.c.outbox_id)
    )
    previews = []
    for row in connection.execute(query).all():
        values = row._asdict()
        state = PublicationState(values.pop("state"))
        publication = Publication(**values | {"kind": PublicationKind(row.kind)})
        outcome = select_published_outcome(connection, publication, states=tuple(PublicationState))
        if outcome is not None:
            previews.append(Preview(outcome, state))
    return previews
