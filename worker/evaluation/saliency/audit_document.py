"""Summarise a saliency audit as one JSON document."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from worker.evaluation.bootstrap import Estimate, bootstrap_mean
from worker.evaluation.json_document import JsonDocument
from worker.evaluation.saliency.audit import AuditResults
from worker.evaluation.saliency.deletion_insertion import ORDERS, SHARES, Order, PerturbationCurves, area_under_curve
from worker.evaluation.saliency.lesion_coverage import ANY_LESION, LEVEL, LesionCoverage
from worker.evaluation.saliency.lesion_masks import LESION_KINDS
from worker.evaluation.saliency.pointing_game import PointingScore
from worker.evaluation.saliency.pointing_view import (
    PointingGame,
    ScoreSummary,
    name_scores,
    summarise_by_grade,
    summarise_game,
    summarise_scores,
)

ORDER_NAMES: Mapping[Order, str] = {"map": "map", "centre": "from the centre outwards", "random": "random"}
"""Names of the orders of pixels in plots and tables."""


class Control(JsonDocument):
    """Pointing game of models with random weights that explain the same outputs.

    over_control: mean difference between the hits of the audited model and of these models.
    """

    models: int
    whole: ScoreSummary
    by_grade: dict[int, ScoreSummary]
    over_control: Estimate

    @property
    def scores(self) -> dict[str, ScoreSummary]:
        """The scores by name, see `name_scores`."""
        return name_scores(self.whole, self.by_grade)


class CoverageOfKind(JsonDocument):
    """Mean share of the lesion pixels, and of the field, that maps cover in the photographs with a kind of lesion."""

    images: int
    lesions: Estimate
    field: Estimate


class Coverage(JsonDocument):
    """Coverage of lesions by kind. level: share of a map's maximum from which it covers a pixel."""

    level: float
    kinds: dict[str, CoverageOfKind]


class OrderCurves(JsonDocument):
    """Mean probability of the explained output at each share of pixels, and the area under the curve."""

    deletion: list[float]
    insertion: list[float]
    deletion_area: Estimate
    insertion_area: Estimate


class DeletionInsertion(JsonDocument):
    """Deletion and insertion in the order of the map, from the centre outwards, and in random order.

    deletion_gain: area of deletion in random order minus that in the order of the map. insertion_gain: area of
    insertion in the order of the map minus that in random order.
    """

    images: int
    shares: list[float]
    orders: dict[Order, OrderCurves]
    deletion_gain: Estimate = Field(serialization_alias="sooner")
    insertion_gain: Estimate = Field(serialization_alias="later")


class RotationStability(JsonDocument):
    """Means of a `RotationResult`."""

    degrees: float
    rank_correlation: Estimate = Field(serialization_alias="likeness")
    probability_change: Estimate = Field(serialization_alias="change")
    same_grade: Estimate


class SaliencyAudit(JsonDocument):
    """Results of all tests; those that a quick audit skips are None or empty.

    weight_randomisation: by stage, rank correlation with the maps of the randomised model. other_images: rank
    correlation between maps of different photographs.
    """

    game: PointingGame
    coverage: Coverage
    control: Control
    deletion_insertion: DeletionInsertion | None = Field(serialization_alias="erasing")
    weight_randomisation: dict[str, Estimate] = Field(serialization_alias="redrawn")
    rotation: list[RotationStability] = Field(serialization_alias="turned")
    other_images: Estimate = Field(serialization_alias="others")


def summarise_audit(results: AuditResults, *, model: str, model_id: str, resamples: int, seed: int) -> SaliencyAudit:
    """Return the means of all results, with intervals from resampled photographs."""

    def mean(values: NDArray[np.float64]) -> Estimate:
        return bootstrap_mean(values, resamples=resamples, seed=seed)

    return SaliencyAudit(
        game=summarise_game(results.pointing, model=model, model_id=model_id, resamples=resamples, seed=seed),
        coverage=_summarise_coverage(results.coverage, resamples=resamples, seed=seed),
        control=_summarise_control(results.pointing, results.controls, resamples=resamples, seed=seed),
        deletion_insertion=_summarise_curves(results.perturbation, resamples=resamples, seed=seed)
        if results.perturbation
        else None,
        weight_randomisation={name: mean(values) for name, values in results.randomisation.items()},
        rotation=[
            RotationStability(
                degrees=result.degrees,
                rank_correlation=mean(result.rank_correlations),
                probability_change=mean(result.probability_changes),
                same_grade=mean(result.same_grade.astype(float)),
            )
            for result in results.rotations
        ],
        other_images=mean(results.other_images),
    )


def _summarise_control(
    scores: Sequence[PointingScore], controls: Sequence[Sequence[PointingScore]], *, resamples: int, seed: int
) -> Control:
    """Average the scores of each image over the control models, because images are the resampling unit."""
    averaged = [_average(of_image) for of_image in zip(*controls, strict=True)]
    differences = np.array([score.hit - control.hit for score, control in zip(scores, averaged, strict=True)])
    return Control(
        models=len(controls),
        whole=summarise_scores(averaged, resamples=resamples, seed=seed),
        by_grade=summarise_by_grade(averaged, resamples=resamples, seed=seed),
        over_control=bootstrap_mean(differences, resamples=resamples, seed=seed),
    )


def _summarise_coverage(coverage: Sequence[LesionCoverage], *, resamples: int, seed: int) -> Coverage:
    kinds = {}
    for kind in (ANY_LESION, *LESION_KINDS):
        images = [one for one in coverage if kind in one.lesions]
        if not images:
            continue
        shares = np.array([(one.lesions[kind], one.field) for one in images])
        lesions, field = (bootstrap_mean(values, resamples=resamples, seed=seed) for values in shares.T)
        kinds[kind] = CoverageOfKind(images=len(images), lesions=lesions, field=field)
    return Coverage(level=LEVEL, kinds=kinds)


def _average(scores: Sequence[PointingScore]) -> PointingScore:
    fields = ("hit", "centre", "chance", "energy", "centre_energy", "outside", "outside_area")
    means = {name: float(np.mean([getattr(score, name) for score in scores])) for name in fields}
    return PointingScore(scores[0].name, scores[0].grade, **means)


def _summarise_curves(curves: Sequence[PerturbationCurves], *, resamples: int, seed: int) -> DeletionInsertion:
    deletion = {order: np.stack([one.deletion[order] for one in curves]) for order in ORDERS}
    insertion = {order: np.stack([one.insertion[order] for one in curves]) for order in ORDERS}

    def areas(of_images: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([area_under_curve(curve) for curve in of_images])

    def mean(values: NDArray[np.float64]) -> Estimate:
        return bootstrap_mean(values, resamples=resamples, seed=seed)

    return DeletionInsertion(
        images=len(curves),
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
        deletion_gain=mean(areas(deletion["random"]) - areas(deletion["map"])),
        insertion_gain=mean(areas(insertion["map"]) - areas(insertion["random"])),
    )
