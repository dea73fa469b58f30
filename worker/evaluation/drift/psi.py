"""Test a run for distribution drift: population stability index (PSI) of a run against a baseline run.

The PSI is the sum of (share - baseline) * ln(share / baseline) over bins. Without drift, PSI / (1/n + 1/m) follows a
chi-squared distribution with one degree of freedom less than there are bins (Yurdakul 2018). The p-value guards small
runs, whose PSI can be large by chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.stats import chi2
from sqlalchemy import Engine, select

from worker.core.errors import RunError
from worker.core.vocabulary import REFERABLE_FROM, Grade, Status
from worker.evaluation.json_document import JsonDocument
from worker.evaluation.labelled import GradedRun
from worker.ledger.database import read_transaction
from worker.ledger.schema import OUTPUTS, gradings

WATCH, DRIFT = 0.10, 0.25
"""Usual limits of the PSI (Siddiqi 2006)."""
SIGNIFICANCE = 0.01
"""Significance level: a PSI with a larger p-value counts as stable."""
BINS = 10
OUTCOMES = (Status.GRADED, Status.UNGRADABLE, Status.FAILED, Status.QUARANTINED)


class DriftLevel(StrEnum):
    """Level of drift, in ascending order."""

    STABLE = "stable"
    WATCH = "watch"
    DRIFT = "drift"


class Bin(JsonDocument):
    """Share of the images in one bin, in [0, 1]."""

    name: str
    baseline: float
    share: float


class DriftFeature(JsonDocument):
    """PSI of one feature. p_value: probability of a PSI at least this large without drift."""

    name: str
    psi: float = Field(serialization_alias="index")
    p_value: float = Field(serialization_alias="chance")
    level: DriftLevel = Field(serialization_alias="verdict")
    bins: list[Bin]


class Drift(JsonDocument):
    """Drift of a run against a baseline; `level` is the highest level of any feature."""

    run: str
    baseline: str
    images: int
    baseline_images: int
    level: DriftLevel = Field(serialization_alias="verdict")
    features: list[DriftFeature]


@dataclass(frozen=True, slots=True)
class _Population:
    """Outcomes of N images. statuses: str (N,). Of M graded images, grades: int (M,), probabilities: float64 (M, 5)."""

    statuses: NDArray[np.str_]
    grades: NDArray[np.int64]
    probabilities: NDArray[np.float64]


def measure_drift(engine: Engine, run: GradedRun, baseline: GradedRun) -> Drift:
    """Compare outcomes, grades, probabilities of referable DR and confidence of two runs.

    Raises RunError if a run has no graded image.
    """
    now, then = _read(engine, run), _read(engine, baseline)
    tenths = [f"{number / BINS:.1f} to {(number + 1) / BINS:.1f}" for number in range(BINS)]
    features = [
        _measure_feature("outcome", [str(status) for status in OUTCOMES], _count_outcomes(now), _count_outcomes(then)),
        _measure_feature("grade", [str(int(grade)) for grade in Grade], _count_grades(now), _count_grades(then)),
        _measure_feature("chance of referable DR", tenths, _count_referable(now), _count_referable(then)),
        _measure_feature("confidence", tenths, _count_confidence(now), _count_confidence(then)),
    ]
    return Drift(
        run=run.name,
        baseline=baseline.name,
        images=len(now.statuses),
        baseline_images=len(then.statuses),
        level=max((feature.level for feature in features), key=list(DriftLevel).index),
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


def _measure_feature(
    name: str, names: Sequence[str], counts: NDArray[np.int64], baseline: NDArray[np.int64]
) -> DriftFeature:
    """Compute the PSI of binned counts; bins empty in both runs are skipped, a bin empty in one run counts as half."""
    used = (counts > 0) | (baseline > 0)
    now, then = (np.maximum(values[used], 0.5) / values.sum() for values in (counts, baseline))
    psi = float(((now - then) * np.log(now / then)).sum())
    degrees_of_freedom = int(used.sum()) - 1
    statistic = psi / (1 / counts.sum() + 1 / baseline.sum())
    p_value = float(chi2.sf(statistic, degrees_of_freedom)) if degrees_of_freedom else 1.0
    level = DriftLevel.STABLE
    if p_value < SIGNIFICANCE and psi >= WATCH:
        level = DriftLevel.DRIFT if psi >= DRIFT else DriftLevel.WATCH
    return DriftFeature(
        name=name,
        psi=psi,
        p_value=p_value,
        level=level,
        bins=[
            Bin(name=bin_name, baseline=float(before), share=float(share))
            for bin_name, before, share in zip(names, baseline / baseline.sum(), counts / counts.sum(), strict=True)
        ],
    )


def _count_outcomes(population: _Population) -> NDArray[np.int64]:
    return np.array([(population.statuses == str(status)).sum() for status in OUTCOMES])


def _count_grades(population: _Population) -> NDArray[np.int64]:
    return np.bincount(population.grades, minlength=len(Grade))


def _count_referable(population: _Population) -> NDArray[np.int64]:
    return _count_tenths(population.probabilities[:, REFERABLE_FROM])


def _count_confidence(population: _Population) -> NDArray[np.int64]:
    """Count the probabilities of the given grade k, P(grade >= k) - P(grade >= k + 1), by tenths."""
    reached = np.column_stack([population.probabilities, np.zeros(len(population.grades))])
    rows = np.arange(len(population.grades))
    return _count_tenths(reached[rows, population.grades] - reached[rows, population.grades + 1])


def _count_tenths(fractions: NDArray[np.float64]) -> NDArray[np.int64]:
    # Differences of outputs that are not monotone can be negative.
    return np.bincount(np.clip((fractions * BINS).astype(int), 0, BINS - 1), minlength=BINS)
