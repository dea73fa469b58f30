"""A pointing game as one document for programs and for people."""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict
from rich.console import Group as Stack
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from worker.evaluation.intervals import Figure, estimate_mean
from worker.evaluation.pointing import TOLERANCE, Pointed
from worker.evaluation.view import tell

MISS_BELOW = 0.5
"""Most of the brightest pixels are on no lesion."""


class Score(BaseModel):
    """Of some images: how often the map, the field's centre and a random place of the field are on a lesion."""

    model_config = ConfigDict(frozen=True)

    images: int
    map: Figure
    centre: Figure
    chance: Figure


class PointingGame(BaseModel):
    """All of it; grades are the model's."""

    model_config = ConfigDict(frozen=True)

    model: str
    model_id: str
    tolerance: float
    whole: Score
    by_grade: dict[int, Score]
    misses: list[str]
    resamples: int
    seed: int


def count(pointed: Sequence[Pointed], *, model: str, model_id: str, resamples: int, seed: int) -> PointingGame:
    """The scores with their intervals, from resampled images."""

    def score(some: Sequence[Pointed]) -> Score:
        figures = {
            name: estimate_mean(np.array([getattr(one, field) for one in some]), resamples=resamples, seed=seed)
            for name, field in (("map", "hit"), ("centre", "centre"), ("chance", "chance"))
        }
        return Score(images=len(some), **figures)

    grades = sorted({one.grade for one in pointed})
    return PointingGame(
        model=model,
        model_id=model_id,
        tolerance=TOLERANCE,
        whole=score(pointed),
        by_grade={int(grade): score([one for one in pointed if one.grade == grade]) for grade in grades},
        misses=[one.name for one in pointed if one.hit < MISS_BELOW],
        resamples=resamples,
        seed=seed,
    )


def draw_game(game: PointingGame) -> RenderableType:
    """The scores, in all and by the model's grade."""
    table = Table("graded", "images", "map", "field's centre", "chance")
    rows = {"any": game.whole} | {str(grade): score for grade, score in game.by_grade.items()}
    for name, score in rows.items():
        table.add_row(name, str(score.images), *(tell(one) for one in (score.map, score.centre, score.chance)))
    foot = (
        f"On a lesion: within {game.tolerance:.3f} of the field. In brackets: 95% intervals from"
        f" {game.resamples:,} resamples of images."
    )
    return Stack(Text(f"{game.model} ({game.model_id})"), table, Text(foot, style="dim"))
