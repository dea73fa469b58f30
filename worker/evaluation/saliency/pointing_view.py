"""A pointing game as one document for programs and for people."""

from collections.abc import Callable, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict
from rich.console import Group as Stack
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from worker.evaluation.bootstrap import Estimate, bootstrap_mean
from worker.evaluation.saliency.pointing_game import TOLERANCE, PointingScore
from worker.evaluation.view import format_estimate

MISS_BELOW = 0.5
"""Most of the brightest pixels are on no lesion."""


class ScoreSummary(BaseModel):
    """Of some images: how often the map, the field's centre and a random place of the field are on a lesion.

    energy: the share of the map's energy on lesions; an even map's is `chance`. centre_energy: of a Gaussian about the
    centre. outside: the share of the map's energy beyond the field; outside_area: of what the model sees.
    over_centre: the mean difference of map and centre on the same images.
    """

    model_config = ConfigDict(frozen=True)

    images: int
    map: Estimate
    centre: Estimate
    chance: Estimate
    over_centre: Estimate
    energy: Estimate
    centre_energy: Estimate
    outside: Estimate
    outside_area: Estimate


class PointingGame(BaseModel):
    """All of it; grades are the model's."""

    model_config = ConfigDict(frozen=True)

    model: str
    model_id: str
    tolerance: float
    whole: ScoreSummary
    by_grade: dict[int, ScoreSummary]
    misses: list[str]
    resamples: int
    seed: int


def summarise_game(
    pointed: Sequence[PointingScore], *, model: str, model_id: str, resamples: int, seed: int
) -> PointingGame:
    """The scores with their intervals, from resampled images."""
    return PointingGame(
        model=model,
        model_id=model_id,
        tolerance=TOLERANCE,
        whole=summarise_scores(pointed, resamples=resamples, seed=seed),
        by_grade=summarise_by_grade(pointed, resamples=resamples, seed=seed),
        misses=[one.name for one in pointed if one.hit < MISS_BELOW],
        resamples=resamples,
        seed=seed,
    )


def summarise_by_grade(pointed: Sequence[PointingScore], *, resamples: int, seed: int) -> dict[int, ScoreSummary]:
    """A score for each grade that the model gave."""
    grades = sorted({one.grade for one in pointed})
    return {
        int(grade): summarise_scores([one for one in pointed if one.grade == grade], resamples=resamples, seed=seed)
        for grade in grades
    }


def summarise_scores(pointed: Sequence[PointingScore], *, resamples: int, seed: int) -> ScoreSummary:
    """One score of all these images."""

    def mean(of: Callable[[PointingScore], float]) -> Estimate:
        return bootstrap_mean(np.array([of(one) for one in pointed]), resamples=resamples, seed=seed)

    return ScoreSummary(
        images=len(pointed),
        map=mean(lambda one: one.hit),
        centre=mean(lambda one: one.centre),
        chance=mean(lambda one: one.chance),
        over_centre=mean(lambda one: one.hit - one.centre),
        energy=mean(lambda one: one.energy),
        centre_energy=mean(lambda one: one.centre_energy),
        outside=mean(lambda one: one.outside),
        outside_area=mean(lambda one: one.outside_area),
    )


def draw_game(game: PointingGame) -> RenderableType:
    """The scores, in all and by the model's grade."""
    table = Table("graded", "images", "map", "field's centre", "chance", "energy", "centre's energy")
    rows = {"any": game.whole} | {str(grade): one for grade, one in game.by_grade.items()}
    for name, one in rows.items():
        figures = (one.map, one.centre, one.chance, one.energy, one.centre_energy)
        table.add_row(name, str(one.images), *(format_estimate(figure) for figure in figures))
    foot = (
        f"On a lesion: within {game.tolerance:.3f} of the field. Energy: the share of the map's that is on lesions; of"
        f" an even map it is chance. In brackets: 95% intervals from {game.resamples:,} resamples of images."
    )
    return Stack(Text(f"{game.model} ({game.model_id})"), table, Text(foot, style="dim"))
