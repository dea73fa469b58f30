"""Read the status of a run: counts by status and grade, errors by code, throughput and remaining time."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, func, select

from worker.core.vocabulary import Grade, PublicationKind, PublicationState, Status
from worker.ledger.database import read_transaction
from worker.ledger.outbox_runs import count_publication_errors, count_publications
from worker.ledger.runs import ENDED_STATES, Run, find_run, list_runs
from worker.ledger.schema import gradings
from worker.ledger.site_acceptance import describe_missing_validation
from worker.ledger.stranded_runs import find_stranded_runs
from worker.ledger.throughput import Throughput, read_busy_time, read_recent_rate

FAILURES = (Status.UNGRADABLE, Status.FAILED, Status.QUARANTINED)


@dataclass(frozen=True, slots=True)
class Counts:
    """Number of images of one run by status and by grade; every status and every grade is a key."""

    by_status: Mapping[Status, int]
    by_grade: Mapping[Grade, int]

    @property
    def total(self) -> int:
        """Number of images of the run."""
        return sum(self.by_status.values())

    @property
    def settled(self) -> int:
        """Number of images that are no longer queued."""
        return self.total - self.by_status[Status.QUEUED]

    @property
    def processed(self) -> int:
        """Number of images that workers have dealt with: settled ones that were not cancelled."""
        return self.settled - self.by_status[Status.CANCELLED]


@dataclass(frozen=True, slots=True)
class RunProgress:
    """Snapshot of a run.

    errors: number of images without a grade by error code, most frequent first. missing_model: name of the run's model
    and precision if workers run, but none with both. not_validated: a warning if the model is not accepted at the run's
    site. publications: number of objects of the outbox by kind and state. publication_errors: number of those that are
    refused or wait after a failure, by error code.
    """

    run: Run
    counts: Counts
    errors: Mapping[str, int]
    throughput: Throughput
    missing_model: str | None = None
    not_validated: str | None = None
    publications: Mapping[PublicationKind, Mapping[PublicationState, int]] = field(default_factory=dict)
    publication_errors: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether the run is finished or cancelled."""
        return self.run.state in ENDED_STATES

    @property
    def seconds_left(self) -> float | None:
        """Estimated time left, from the recent throughput or else that of the busy time; None if unknown or ended."""
        rate = self.throughput.recent or self.throughput.overall
        queued = self.counts.by_status[Status.QUEUED]
        return None if self.is_over or not queued or rate is None else queued / rate


def read_progress(engine: Engine, name: str, *, overall: bool = True) -> RunProgress:
    """Read the progress of a run. Raises RunError for an unknown run, DatabaseError.

    overall: also read the busy time of a run that nobody has worked on for a minute. It scans the run's images; indexes
    answer the rest.
    """
    run = find_run(engine, name)
    with read_transaction(engine) as connection:
        counts = _counts(connection, [run.run_id])[run.run_id]
        errors = _errors(connection, run.run_id)
        throughput = _throughput(connection, run, counts, overall=overall)
        missing = {stranded.run_id: stranded.missing for stranded in find_stranded_runs(connection)}
        not_validated = describe_missing_validation(connection, run.site, run.model_id)
        publications = count_publications(connection, [run.run_id])
        publication_errors = count_publication_errors(connection, run.run_id) if publications else {}
    return RunProgress(
        run,
        counts,
        errors,
        throughput,
        missing.get(run.run_id),
        not_validated,
        publications,
        publication_errors,
    )


def read_overview(
    engine: Engine, count: int, *, before: int | None = None, after: int | None = None
) -> list[tuple[Run, Counts]]:
    """Read runs with their counts, newest first: the latest, or those next before or after a run id."""
    found = list_runs(engine, count, before=before, after=after)
    with read_transaction(engine) as connection:
        counts = _counts(connection, [run.run_id for run in found])
    return [(run, counts[run.run_id]) for run in found]


def describe_progress(progress: RunProgress) -> dict[str, Any]:
    """Build the JSON object of `fundus status RUN`."""
    return describe_counts(progress.run, progress.counts) | {
        "errors": dict(progress.errors),
        "images_per_s": progress.throughput.overall,
        "recent_images_per_s": progress.throughput.recent,
        "busy_s": None if progress.throughput.busy is None else progress.throughput.busy.seconds,
        "seconds_left": progress.seconds_left,
        "missing_model": progress.missing_model,
        "not_validated": progress.not_validated,
        "publications": {
            str(kind): {str(state): number for state, number in by_state.items()}
            for kind, by_state in progress.publications.items()
        },
        "publication_errors": dict(progress.publication_errors),
    }


def describe_counts(run: Run, counts: Counts) -> dict[str, Any]:
    """Build the JSON object of one run without errors and throughput."""
    return {
        "run": run.name,
        "state": run.state,
        "total": counts.total,
        **{str(status): number for status, number in counts.by_status.items()},
        "grades": {str(int(grade)): number for grade, number in counts.by_grade.items()},
        "kind": run.kind,
        "queue": run.queue,
        "source": run.source,
        "model_id": run.model_id,
        "precision": run.precision,
        "site": run.site,
        "created_at": run.created_at.isoformat(),
        "finished_at": None if run.finished_at is None else run.finished_at.isoformat(),
        "held": run.held,
    }


def _throughput(connection: Connection, run: Run, counts: Counts, *, overall: bool) -> Throughput:
    is_over = run.state in ENDED_STATES
    recent = None if is_over else read_recent_rate(connection, run.run_id, counts.settled, datetime.now(UTC))
    is_read = overall and counts.settled and recent is None
    return Throughput(recent, read_busy_time(connection, run.run_id) if is_read else None)


def _counts(connection: Connection, run_ids: Sequence[int]) -> dict[int, Counts]:
    by_status: dict[int, Counter[str]] = defaultdict(Counter)
    by_grade: dict[int, Counter[int]] = defaultdict(Counter)
    rows = connection.execute(
        select(gradings.c.run_id, gradings.c.status, gradings.c.grade, func.count().label("images"))
        .where(gradings.c.run_id.in_(run_ids))
        .group_by(gradings.c.run_id, gradings.c.status, gradings.c.grade)
    )
    for row in rows:
        by_status[row.run_id][row.status] += row.images
        by_grade[row.run_id][row.grade] += row.images
    return {
        run_id: Counts(
            {status: by_status[run_id][status] for status in Status},
            {grade: by_grade[run_id][grade] for grade in Grade},
        )
        for run_id in run_ids
    }


def _errors(connection: Connection, run_id: int) -> dict[str, int]:
    images = func.count().label("images")
    rows = connection.execute(
        select(gradings.c.error_code, images)
        .where(gradings.c.run_id == run_id, gradings.c.status.in_(FAILURES))
        .group_by(gradings.c.error_code)
        .order_by(images.desc(), gradings.c.error_code)
    )
    return {row.error_code: row.images for row in rows}
