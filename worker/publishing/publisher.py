"""Publish what the outbox holds: lease objects, give each to the publisher of its kind, and record the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from traceback import extract_tb
from typing import TYPE_CHECKING, Any

import structlog

from worker.core.errors import FundusError, NothingToRetractError, ObjectRefusedError, ServiceError
from worker.core.periodic import PeriodicThread
from worker.core.vocabulary import PublicationKind
from worker.ledger.outbox import (
    Publication,
    PublicationLease,
    accepts_objects,
    finish_publication,
    lease_publications,
    postpone_publication,
    refuse_publication,
    release_publications,
    renew_publications,
    supersede_publication,
)
from worker.ledger.published_outcomes import PublishedOutcome, read_published_outcome

if TYPE_CHECKING:
    from sqlalchemy import Engine

Publisher = Callable[[PublishedOutcome], object]
"""Stores one object, so that a repetition stores no second one; it reads what is stored before and after.

Raises ServiceError if a service failed, and the object is tried again; NothingToRetractError; another FundusError if it
must not be published.
"""

BATCH = 16
THREADS = 4
MAX_SERVICE_FAILURES = 4
"""After this many failures of a kind in a row, its service is considered away, and the pass ends for it."""
MAX_REFUSALS = 5
"""How often a service may refuse one object, while it accepts others, before the object is refused."""

log = structlog.get_logger(__name__)


class PublicationResult(StrEnum):
    """What became of one leased object."""

    PUBLISHED = "published"
    POSTPONED = "postponed"
    REFUSED = "refused"
    SUPERSEDED = "superseded"
    LOST = "lost"
    """Another publisher holds it now."""


@dataclass(slots=True)
class PassResult:
    """Numbers of objects of one pass by result and kind. away: the last error of each kind whose service is away."""

    counts: Counter[tuple[PublicationResult, PublicationKind]] = field(default_factory=Counter)
    away: dict[PublicationKind, str] = field(default_factory=dict)

    def count(self, result: PublicationResult) -> int:
        """Return the number of objects with this result."""
        return sum(number for (found, _), number in self.counts.items() if found is result)

    def describe(self) -> dict[str, Any]:
        """Return the numbers by result and kind, and the errors by kind, as JSON types."""
        by_result = {
            str(result): {str(kind): number for (found, kind), number in sorted(self.counts.items()) if found is result}
            for result in PublicationResult
        }
        return {**by_result, "away": {str(kind): detail for kind, detail in self.away.items()}}


def publish_pending(
    engine: Engine,
    publishers: Mapping[PublicationKind, Publisher],
    *,
    run_id: int | None = None,
    lease_s: float,
    max_attempts: int,
    on_progress: Callable[[], object] = lambda: None,
) -> PassResult:
    """Publish what is due, of one run or of all, until nothing is left or the services are away.

    on_progress: called after each batch; it may raise to end the pass, and what was leased is released. Raises
    DatabaseError.
    """
    result = PassResult()
    failures: Counter[PublicationKind] = Counter()
    with ThreadPoolExecutor(THREADS, thread_name_prefix="publish") as threads:
        while kinds := [kind for kind in publishers if kind not in result.away]:
            lease = lease_publications(
                engine,
                kinds,
                enabled=tuple(publishers),
                run_id=run_id,
                limit=BATCH,
                lease_s=lease_s,
                max_attempts=max_attempts,
            )
            if not lease.publications:
                break
            with _held(engine, lease, lease_s):
                outcomes = threads.map(
                    lambda one, held=lease: _publish(engine, held, one, publishers), lease.publications
                )
                for one, (found, error) in zip(lease.publications, outcomes, strict=True):
                    result.counts[found, one.kind] += 1
                    is_away = found is PublicationResult.POSTPONED and not isinstance(error, ObjectRefusedError)
                    failures[one.kind] = failures[one.kind] + 1 if is_away else 0
                    if error is not None and failures[one.kind] >= MAX_SERVICE_FAILURES:
                        result.away[one.kind] = error.detail
            on_progress()
    return result


@contextmanager
def _held(engine: Engine, lease: PublicationLease, lease_s: float) -> Iterator[None]:
    """Renew the lease; at the end, release what was not settled."""
    renewal = PeriodicThread(
        "publications", lambda: renew_publications(engine, lease, lease_s=lease_s), interval_s=lease_s / 3
    )
    try:
        yield
    finally:
        renewal.stop()
        release_publications(engine, lease)


def _publish(
    engine: Engine, lease: PublicationLease, one: Publication, publishers: Mapping[PublicationKind, Publisher]
) -> tuple[PublicationResult, FundusError | None]:
    outcome = read_published_outcome(engine, one)
    if outcome is None:
        return _supersede(engine, lease, one), None
    try:
        publishers[one.kind](outcome)
    except NothingToRetractError:
        return _supersede(engine, lease, one), None
    except ServiceError as error:
        is_refusal = isinstance(error, ObjectRefusedError) and one.failures >= MAX_REFUSALS
        # A service that accepts nothing, as a PACS whose disk is full, says nothing about this object.
        if is_refusal and accepts_objects(engine, one.kind):
            return _refuse(engine, lease, one, error)
        log.warning("publication_postponed", kind=one.kind, uid=one.uid, code=error.code, detail=error.detail)
        is_held = postpone_publication(engine, lease, one, error)
        return PublicationResult.POSTPONED if is_held else PublicationResult.LOST, error
    except FundusError as error:
        return _refuse(engine, lease, one, error)
    except Exception as error:  # noqa: BLE001 - one object must not stop the others
        # Nothing of the message: a library may repeat a value of the photograph's header in it.
        detail = f"{type(error).__name__} {_find_place(error)}"
        return _refuse(engine, lease, one, FundusError(detail, code="unexpected"))
    if not finish_publication(engine, lease, one):
        return PublicationResult.LOST, None
    log.info("published", kind=one.kind, uid=one.uid, run=outcome.run)
    return PublicationResult.PUBLISHED, None


def _supersede(engine: Engine, lease: PublicationLease, one: Publication) -> PublicationResult:
    is_held = supersede_publication(engine, lease, one)
    return PublicationResult.SUPERSEDED if is_held else PublicationResult.LOST


def _refuse(
    engine: Engine, lease: PublicationLease, one: Publication, error: FundusError
) -> tuple[PublicationResult, FundusError | None]:
    log.error("publication_refused", kind=one.kind, uid=one.uid, code=error.code, detail=error.detail)
    is_held = refuse_publication(engine, lease, one, error)
    return PublicationResult.REFUSED if is_held else PublicationResult.LOST, error


def _find_place(error: Exception) -> str:
    """Return `in FILE:LINE` for the places of the traceback, the innermost last."""
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in extract_tb(error.__traceback__)]
    return f"in {', '.join(places[-3:])}"
