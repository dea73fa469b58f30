"""Measure the drift of a night against the last night of its programme without drift."""

from datetime import date

from sqlalchemy import Engine, exists, or_, select

from worker.core.vocabulary import Status
from worker.evaluation.drift.psi import Drift, DriftLevel, measure_drift
from worker.evaluation.labelled import GradedRun, find_graded_run
from worker.ledger.database import read_transaction
from worker.ledger.schema import gradings, nights, runs


def measure_night_drift(engine: Engine, name: str, programme: str, night: date, baseline: str | None) -> Drift | None:
    """Measure the drift of a night's run against `baseline`, or else the programme's last night without drift.

    Returns None if no image was graded or no earlier night was graded by the same model. Raises RunError if the run
    `baseline` does not exist or has no graded image, DatabaseError if the database fails.
    """
    run = find_graded_run(engine, name)
    if not _has_graded(engine, run):
        return None
    baseline_name = baseline or _find_last_stable(engine, run, programme, night)
    return None if baseline_name is None else measure_drift(engine, run, find_graded_run(engine, baseline_name))


def _has_graded(engine: Engine, run: GradedRun) -> bool:
    with read_transaction(engine) as connection:
        graded = exists().where(gradings.c.run_id == run.run_id, gradings.c.status == Status.GRADED)
        return bool(connection.scalar(select(graded)))


def _find_last_stable(engine: Engine, run: GradedRun, programme: str, night: date) -> str | None:
    graded = exists().where(gradings.c.run_id == runs.c.run_id, gradings.c.status == Status.GRADED)
    query = (
        select(runs.c.name)
        .join(nights, nights.c.run_id == runs.c.run_id)
        .where(
            nights.c.programme == programme,
            nights.c.night < night,
            nights.c.closed_at.is_not(None),
            or_(nights.c.verdict.is_(None), nights.c.verdict != DriftLevel.DRIFT),
            runs.c.model_id == run.model_id,
            graded,
        )
        .order_by(nights.c.night.desc())
        .limit(1)
    )
    with read_transaction(engine) as connection:
        return connection.scalar(query)
