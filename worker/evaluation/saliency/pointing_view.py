"""Summarise a pointing game as one JSON document, and show it on the terminal."""

from collections.abc import Callable, Sequence

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from worker.evaluation.bootstrap import Estimate, bootstrap_mean
from worker.evaluation.json_document import JsonDocument
from worker.evaluation.saliency.pointing_game import TOLERANCE, PointingScore
from worker.evaluation.view import plain_table, stack_estimate

MISS_BELOW = 0.5
"""A map is a miss if less than this share of its brightest pixels is on a lesion."""


class ScoreSummary(JsonDocument):
    """Mean scores of some images, see `PointingScore`.

    map, centre, chance: share of images in which the map's maximum, the field's centre and a random position are on a
    lesion. over_centre: mean difference between map and centre on the same images. energy, centre_energy: share of the
    energy of the map, and of a Gaussian at the centre, on lesions; that of a uniform map is `chance`. outside: share of
    the map's energy outside the field. outside_area: share of the model's input outside the field.
    """

    images: int
    map: Estimate
    centre: Estimate
    chance: Estimate
    over_centre: Estimate
    energy: Estimate
    centre_energy: Estimate
    outside: Estimate
    outside_area: Estimate


class PointingGame(JsonDocument):
    """Summary of a pointing game, in total and by the grade that the model gave; `misses` lists image names."""

    model: str
    model_id: str
    tolerance: float
    whole: ScoreSummary
    by_grade: dict[int, ScoreSummary]
    misses: list[str]
    resamples: int
    seed: int

    @property
    def scores(self) -> dict[str, ScoreSummary]:
        """The scores by name, see `name_scores`."""
        return name_scores(self.whole, self.by_grade)


def name_scores(whole: ScoreSummary, by_grade: dict[int, ScoreSummary]) -> dict[str, ScoreSummary]:
    """Return the rows of a table: `all`, `grade 0`, `grade 1`, and so on."""
    return {"all": whole} | {f"grade {grade}": score for grade, score in by_grade.items()}


def summarise_game(
    scores: Sequence[PointingScore], *, model: str, model_id: str, resamples: int, seed: int
) -> PointingGame:
    """Return the mean scores, with intervals from resampled images."""
    return PointingGame(
        model=model,
        model_id=model_id,
        tolerance=TOLERANCE,
        whole=summarise_scores(scores, resamples=resamples, seed=seed),
        by_grade=summarise_by_grade(scores, resamples=resamples, seed=seed),
        misses=[score.name for score in scores if score.hit < MISS_BELOW],
        resamples=resamples,
        seed=seed,
    )


def summarise_by_grade(scores: Sequence[PointingScore], *, resamples: int, seed: int) -> dict[int, ScoreSummary]:
    """Return the mean scores for each grade that the model gave."""
    grades = sorted({score.grade for score in scores})
    return {
        int(grade): summarise_scores(
            [score for score in scores if score.grade == grade], resamples=resamples, seed=seed
        )
        for grade in grades
    }


def summarise_scores(scores: Sequence[PointingScore], *, resamples: int, seed: int) -> ScoreSummary:
    """Return the mean scores of all given images."""

    def mean(value_of: Callable[[PointingScore], float]) -> Estimate:
        return bootstrap_mean(np.array([value_of(score) for score in scores]), resamples=resamples, seed=seed)

    return ScoreSummary(
        images=len(scores),
        map=mean(lambda score: score.hit),
        centre=mean(lambda score: score.centre),
        chance=mean(lambda score: score.chance),
        over_centre=mean(lambda score: score.hit - score.centre),
        energy=mean(lambda score: score.energy),
        centre_energy=mean(lambda score: score.centre_energy),
        outside=mean(lambda score: score.outside),
        outside_area=mean(lambda score: score.outside_area),
    )


def draw_game(game: PointingGame) -> RenderableType:
    """Return a table of the scores, in total and by grade."""
    table = plain_table("graded", "images", "map", "centre of field", "random position", "energy", "energy of centre")
    for name, score in game.scores.items():
        estimates = (score.map, score.centre, score.chance, score.energy, score.centre_energy)
        table.add_row(name, str(score.images), *map(stack_estimate, estimates))
    foot = (
        f"On a lesion: within {game.tolerance:.3f} of the field's side. Energy: share of the map's energy on lesions,"
        f" equal to that of a random position for a uniform map. In brackets: 95% intervals from {game.resamples:,}"
        " resamples of images."
    )
    return Group(Text(f"{game.model} ({game.model_id})"), table, Text(foot, style="dim"))
