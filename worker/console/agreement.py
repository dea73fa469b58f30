"""How the readers of a run agree with each other and with the model, and how long they take."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

from sqlalchemy import Engine, true

from worker.core.vocabulary import DecisionKind, Grade
from worker.ledger.database import read_transaction
from worker.ledger.final_grades import ReviewDecision, read_decisions
from worker.ledger.runs import Run

Pair = tuple[int | None, int | None]


@dataclass(frozen=True, slots=True)
class PairAgreement:
    """Two readers of the same images. equal: images on which they gave the same grade, or both ungradable.

    kappa: quadratically weighted, of the images that both graded; None if undefined.
    """

    readers: tuple[str, str]
    images: int
    equal: int
    kappa: float | None


@dataclass(frozen=True, slots=True)
class ReaderFigures:
    """One reader. seconds: median time an image, None if unknown. with_model: agreement with the model, by assistance.

    The agreement of assisted readings says little: the reader had seen the model's result.
    """

    reader: str
    images: int
    arbitrations: int
    withdrawn: int
    seconds: float | None
    unassisted: "ModelAgreement"
    assisted: "ModelAgreement"


@dataclass(frozen=True, slots=True)
class ModelAgreement:
    """Readings of images that the model graded; equal and kappa as in `PairAgreement`."""

    images: int
    equal: int
    kappa: float | None


@dataclass(frozen=True, slots=True)
class RunAgreement:
    """Figures of all readers and pairs of readers, by name."""

    readers: Sequence[ReaderFigures]
    pairs: Sequence[PairAgreement]


def read_agreement(engine: Engine, run: Run) -> RunAgreement:
    """Compute the agreement of a run's readers. Raises DatabaseError."""
    with read_transaction(engine) as connection:
        recorded = read_decisions(connection, run.run_id, run.name, true(), withdrawn=True)
    latest = [_find_readings(decided) for decided in recorded.values()]
    by_pair: dict[tuple[str, str], list[Pair]] = defaultdict(list)
    for readings in latest:
        for one, other in combinations(sorted(readings), 2):
            by_pair[one, other].append((readings[one].grade, readings[other].grade))
    pairs = [
        PairAgreement(names, len(grades), _count_equal(grades), compute_kappa(grades))
        for names, grades in sorted(by_pair.items())
    ]
    everything = [decision for decided in recorded.values() for decision in decided]
    names = sorted({decision.reader for decision in everything})
    return RunAgreement([_describe_reader(name, everything, latest) for name in names], pairs)


def compute_kappa(grades: Iterable[Pair]) -> float | None:
    """Return Cohen's kappa with quadratic weights of the pairs that both graded; None if it is undefined.

    Source: Cohen 1968.
    """
    graded = [(one, other) for one, other in grades if one is not None and other is not None]
    ones, others = Counter(one for one, _ in graded), Counter(other for _, other in graded)
    observed = sum((one - other) ** 2 for one, other in graded)
    by_chance = sum((one - other) ** 2 * ones[one] * others[other] for one in Grade for other in Grade)
    return 1 - observed * len(graded) / by_chance if by_chance else None


def _find_readings(decided: Sequence[ReviewDecision]) -> dict[str, ReviewDecision]:
    """Return the latest reading of each reader of one image."""
    return {one.reader: one for one in decided if one.kind is DecisionKind.READING and one.withdrawn_at is None}


def _describe_reader(
    name: str, everything: Sequence[ReviewDecision], latest: Sequence[dict[str, ReviewDecision]]
) -> ReaderFigures:
    own = [decision for decision in everything if decision.reader == name]
    standing = [decision for decision in own if decision.withdrawn_at is None]
    seconds = [decision.seconds for decision in standing if decision.seconds is not None]
    readings = [some[name] for some in latest if name in some]
    return ReaderFigures(
        reader=name,
        images=len(readings),
        arbitrations=sum(decision.kind is DecisionKind.ARBITRATION for decision in standing),
        withdrawn=len(own) - len(standing),
        seconds=median(seconds) if seconds else None,
        unassisted=_compare_with_model(one for one in readings if one.unassisted),
        assisted=_compare_with_model(one for one in readings if not one.unassisted),
    )


def _compare_with_model(readings: Iterable[ReviewDecision]) -> ModelAgreement:
    grades = [(one.grade, one.seen_grade) for one in readings]
    return ModelAgreement(len(grades), _count_equal(grades), compute_kappa(grades))


def _count_equal(grades: Sequence[Pair]) -> int:
    return sum(one == other for one, other in grades)
