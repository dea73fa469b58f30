"""Has what comes in changed? The population stability index of one run against a baseline run.

The index sums (share - baseline) * ln(share / baseline) over bins. If nothing has changed, the index over
(1/n + 1/m) follows chi-squared with one degree of freedom less than there are bins (Yurdakul 2018): a small run may
have a large index by chance, and a run of 100,000 hardly any.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.stats import chi2
from sqlalchemy import Engine, select

from worker.core.errors import RunError
from worker.core.vocabulary import REFERABLE_FROM, Grade, Status
from worker.evaluation.labelled import GradedRun
from worker.ledger.database import read_transaction
from worker.ledger.schema import OUTPUTS, gradings

WATCH, DRIFT = 0.10, 0.25
"""The usual limits of the index (Siddiqi 2006)."""
SIGNIFICANCE = 0.01
"""An index that chance would reach more often than this is no verdict."""
BINS = 10
OUTCOMES = (Status.GRADED, Status.UNGRADABLE, Status.FAILED, Status.QUARANTINED)


class DriftLevel(StrEnum):
    """In the order in which they matter."""

    STABLE = "stable"
    WATCH = "watch"
    DRIFT = "drift"


class Bin(BaseModel):
    """Shares in [0, 1]."""

    model_config = ConfigDict(frozen=True)

    name: str
    baseline: float
    share: float


class DriftFeature(BaseModel):
    """One thing that is looked at. `chance`: how often an index so large comes of nothing."""

    model_config = ConfigDict(frozen=True)

    name: str
    index: float
    chance: float
    verdict: DriftLevel
    bins: list[Bin]


class Drift(BaseModel):
    """A run against a baseline; `verdict` is the worst of the features'."""

    model_config = ConfigDict(frozen=True)

    run: str
    baseline: str
    images: int
    baseline_images: int
    verdict: DriftLevel
    features: list[DriftFeature]


@dataclass(frozen=True, slots=True)
class _Population:
    """statuses: str (N,); grades: int (M,); probabilities: float64 (M, 5) of the M graded ones."""

    statuses: NDArray[np.str_]
    grades: NDArray[np.int64]
    probabilities: NDArray[np.float64]


def measure_drift(engine: Engine, run: GradedRun, baseline: GradedRun) -> Drift:
    """Outcomes, grades, chances of referable DR and confidence. Raises RunError when a run has no graded image."""
    now, then = _read(engine, run), _read(engine, baseline)
    tenths = [f"{number / BINS:.1f} to {(number + 1) / BINS:.1f}" for number in range(BINS)]
    features = [
        _compare("outcome", [str(status) for status in OUTCOMES], _outcomes(now), _outcomes(then)),
        _compare("grade", [str(int(grade)) for grade in Grade], _grades(now), _grades(then)),
        _compare("chance of referable DR", tenths, _referable(now), _referable(then)),
        _compare("confidence", tenths, _confidence(now), _confidence(then)),
    ]
    return Drift(
        run=run.name,
        baseline=baseline.name,
        images=len(now.statuses),
        baseline_images=len(then.statuses),
        verdict=max((feature.verdict for feature in features), key=list(DriftLevel).index),
        features=features,
    )


def _read(engine: Engine, run: GradedRun) -> _Population:
    query = select(gradings.c.status, gradings.c.grade, *(gradings.c[name] for name in OUTPUTS)).where(
        gradings.c.run_id == run.run_id, gradings.c.status.in_(OUTCOMES)
    )
    with read_transaction(engine) as connection:
        rows = connection.execute(query).all()
    graded = [row for row in rows if row.grade is not None]
    if not graded:
        raise RunError(f"run {run.name} has no graded image yet")
    return _Population(
        statuses=np.array([row.status for row in rows]),
        grades=np.array([row.grade for row in graded]),
        probabilities=np.array([row[2:] for row in graded], np.float64),
    )


def _compare(name: str, names: Sequence[str], counts: NDArray[np.int64], baseline: NDArray[np.int64]) -> DriftFeature:
    """Bins that both runs leave empty tell nothing and are left out; one that one run leaves empty counts half."""
    used = (counts > 0) | (baseline > 0)
    now, then = (np.maximum(some[used], 0.5) / some.sum() for some in (counts, baseline))
    index = float(((now - then) * np.log(now / then)).sum())
    free = int(used.sum()) - 1
    chance = float(chi2.sf(index / (1 / counts.sum() + 1 / baseline.sum()), free)) if free else 1.0
    verdict = DriftLevel.STABLE
    if chance < SIGNIFICANCE and index >= WATCH:
        verdict = DriftLevel.DRIFT if index >= DRIFT else DriftLevel.WATCH
    return DriftFeature(
        name=name,
        index=index,
        chance=chance,
        verdict=verdict,
        bins=[
            Bin(name=bin_name, baseline=float(before), share=float(share))
            for bin_name, before, share in zip(names, baseline / baseline.sum(), counts / counts.sum(), strict=True)
        ],
    )


def _outcomes(population: _Population) -> NDArray[np.int64]:
    return np.array([(population.statuses == str(status)).sum() for status in OUTCOMES])


def _grades(population: _Population) -> NDArray[np.int64]:
    return np.bincount(population.grades, minlength=len(Grade))


def _referable(population: _Population) -> NDArray[np.int64]:
    return _count_tenths(population.probabilities[:, REFERABLE_FROM])


def _confidence(population: _Population) -> NDArray[np.int64]:
    """Of the chance that the grade is just this one: P(grade >= k) - P(grade >= k + 1)."""
    reached = np.column_stack([population.probabilities, np.zeros(len(population.grades))])
    rows = np.arange(len(population.grades))
    return _count_tenths(reached[rows, population.grades] - reached[rows, population.grades + 1])


def _count_tenths(fractions: NDArray[np.float64]) -> NDArray[np.int64]:
    # Of outputs that are not monotone, a difference can be below zero.
    return np.bincount(np.clip((fractions * BINS).astype(int), 0, BINS - 1), minlength=BINS)
