"""An audit as one document for programs and for people."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from worker.evaluation.bootstrap import Estimate, bootstrap_mean
from worker.evaluation.saliency.audit import AuditResults
from worker.evaluation.saliency.deletion_insertion import ORDERS, SHARES, Order, PerturbationCurves, area_under_curve
from worker.evaluation.saliency.pointing_game import PointingScore
from worker.evaluation.saliency.pointing_view import (
    PointingGame,
    ScoreSummary,
    summarise_by_grade,
    summarise_game,
    summarise_scores,
)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Control(_Frozen):
    """Models that have learnt nothing, explaining the same outputs. over_control: how much more the audited hits."""

    models: int
    whole: ScoreSummary
    by_grade: dict[int, ScoreSummary]
    over_control: Estimate


class OrderCurves(_Frozen):
    """The mean probability of the explained output at each share, and the area under it."""

    deletion: list[float]
    insertion: list[float]
    deletion_area: Estimate
    insertion_area: Estimate


class DeletionInsertion(_Frozen):
    """In the order of the map, from the centre outwards, and at random. sooner: how much smaller the area of deletion
    by the map is than at random; later: how much larger that of insertion."""

    images: int
    shares: list[float]
    orders: dict[Order, OrderCurves]
    sooner: Estimate
    later: Estimate


class RotationStability(_Frozen):
    """See `worker.evaluation.saliency.rotation_stability.Turned`; means."""

    degrees: float
    likeness: Estimate
    change: Estimate
    same_grade: Estimate


class SaliencyAudit(_Frozen):
    """All of it. redrawn, others: likeness, from -1 to 1; see `audit.Findings`. What a quick audit
    leaves out is None or empty."""

    game: PointingGame
    control: Control
    erasing: DeletionInsertion | None
    redrawn: dict[str, Estimate]
    turned: list[RotationStability]
    others: Estimate


def summarise_audit(findings: AuditResults, *, model: str, model_id: str, resamples: int, seed: int) -> SaliencyAudit:
    """Means with intervals, from resampled images."""

    def mean(values: NDArray[np.float64]) -> Estimate:
        return bootstrap_mean(values, resamples=resamples, seed=seed)

    return SaliencyAudit(
        game=summarise_game(findings.pointed, model=model, model_id=model_id, resamples=resamples, seed=seed),
        control=_control(findings.pointed, findings.by_chance, resamples=resamples, seed=seed),
        erasing=_erasing(findings.erased, resamples=resamples, seed=seed) if findings.erased else None,
        redrawn={name: mean(values) for name, values in findings.redrawn.items()},
        turned=[
            RotationStability(
                degrees=one.degrees,
                likeness=mean(one.likeness),
                change=mean(one.change),
                same_grade=mean(one.same_grade.astype(float)),
            )
            for one in findings.turned
        ],
        others=mean(findings.others),
    )


def _control(
    pointed: Sequence[PointingScore], by_chance: Sequence[Sequence[PointingScore]], *, resamples: int, seed: int
) -> Control:
    """Each image's figures are averaged over the models first: images are what is resampled."""
    averaged = [_average(games) for games in zip(*by_chance, strict=True)]
    better = np.array([one.hit - other.hit for one, other in zip(pointed, averaged, strict=True)])
    return Control(
        models=len(by_chance),
        whole=summarise_scores(averaged, resamples=resamples, seed=seed),
        by_grade=summarise_by_grade(averaged, resamples=resamples, seed=seed),
        over_control=bootstrap_mean(better, resamples=resamples, seed=seed),
    )


def _average(games: Sequence[PointingScore]) -> PointingScore:
    figures = ("hit", "centre", "chance", "energy", "centre_energy", "outside", "outside_area")
    means = {name: float(np.mean([getattr(game, name) for game in games])) for name in figures}
    return PointingScore(games[0].name, games[0].grade, **means)


def _erasing(erased: Sequence[PerturbationCurves], *, resamples: int, seed: int) -> DeletionInsertion:
    deletion = {order: np.stack([one.deletion[order] for one in erased]) for order in ORDERS}
    insertion = {order: np.stack([one.insertion[order] for one in erased]) for order in ORDERS}

    def areas(curves: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([area_under_curve(curve) for curve in curves])

    def mean(values: NDArray[np.float64]) -> Estimate:
        return bootstrap_mean(values, resamples=resamples, seed=seed)

    return DeletionInsertion(
        images=len(erased),
        shares=list(SHARES),
        orders={
            order: OrderCurves(
                deletion=deletion[order].mean(axis=0).tolist(),
                insertion=insertion[order].mean(axis=0).tolist(),
                deletion_area=mean(areas(deletion[order])),
                insertion_area=mean(areas(insertion[order])),
            )
            for order in ORDERS
        },
        sooner=mean(areas(deletion["random"]) - areas(deletion["map"])),
        later=mean(areas(insertion["map"]) - areas(insertion["random"])),
    )
