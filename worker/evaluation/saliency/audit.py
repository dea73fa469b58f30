"""Put a model's maps to all the trials, photograph by photograph."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worker.core.predictions import Enhanced
from worker.core.vocabulary import Grade
from worker.evaluation.saliency.deletion_insertion import Erased, erase
from worker.evaluation.saliency.explainer import BATCH, Looker, Looks
from worker.evaluation.saliency.lesion_masks import enhance_for, read_marked
from worker.evaluation.saliency.pointing_game import Pointed, judge, survey
from worker.evaluation.saliency.rank_correlation import compare, spread
from worker.evaluation.saliency.rotation_stability import ANGLES, Turned, turn_all
from worker.evaluation.saliency.weight_randomisation import list_stages, redraw
from worker.model.bundle.ensemble import Model
from worker.model.engines.factory import EngineName

RANDOM_SEEDS = (0, 1, 2)
"""Of the models that have learnt nothing; one alone may be lucky."""


@dataclass(frozen=True, slots=True)
class Findings:
    """pointed: the model's game. by_chance: for each of RANDOM_SEEDS the game of a model whose layers are all redrawn,
    explaining the same outputs. redrawn: likeness of each map with that of the model redrawn to each stage. others:
    likeness of each map with the next photograph's.
    """

    pointed: list[Pointed]
    by_chance: list[list[Pointed]]
    erased: list[Erased] = field(default_factory=list)
    redrawn: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    turned: list[Turned] = field(default_factory=list)
    others: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True, slots=True)
class _Played:
    names: list[str]
    pictures: list[Enhanced]
    looks: list[Looks]
    games: list[list[Pointed]]


def audit(
    engine: EngineName,
    model: Model,
    folder: Path,
    *,
    quick: bool,
    remark: Callable[[str], object],
    step: Callable[[str], object],
) -> Findings:
    """quick: the pointing game alone. `step` is called with the trial's name after each photograph or pass.

    Raises and remarks as `read_marked`.
    """
    looker = Looker(engine, model)
    random = [Looker(engine, redraw(model, 1.0, seed), either_sign=True) for seed in RANDOM_SEEDS]
    played = _play(looker, random, folder, remark, lambda: step("pointing"))
    game, *by_chance = played.games
    if quick:
        return Findings(game, by_chance)
    looks = _join(played.looks)
    maps = [spread(one) for one in looks.saliency]
    redrawn = {}
    for name, share in list_stages(model).items():
        changed = Looker(engine, redraw(model, share, RANDOM_SEEDS[0]), either_sign=True)
        found = changed.look(played.pictures, looks.explained).saliency
        redrawn[name] = _compare_all(maps, [spread(one) for one in found])
        step("redrawing")
    turned = []
    for degrees in ANGLES:
        turned.append(turn_all(looker, played.pictures, looks, degrees))
        step("turning")
    erased = erase(looker, played.names, played.pictures, looks.saliency, looks.explained, step=lambda: step("erasing"))
    others = _compare_all(maps, maps[1:] + maps[:1])
    return Findings(game, by_chance, erased, redrawn, turned, others)


def _play(
    looker: Looker,
    random: Sequence[Looker],
    folder: Path,
    remark: Callable[[str], object],
    step: Callable[[], object],
) -> _Played:
    """Each photograph is read, and its lesions are measured, once for all models."""
    played = _Played([], [], [], [[] for _ in (looker, *random)])
    marked = read_marked(folder, looker.model, remark)
    while some := list(islice(marked, BATCH)):
        pictures = [enhance_for(looker.model, one) for one in some]
        looks = looker.look(pictures)
        maps = [looks.saliency, *(other.look(pictures, looks.explained).saliency for other in random)]
        for place, one in enumerate(some):
            ground, grade = survey(one), Grade(int(looks.passed[place]))
            for game, saliency in zip(played.games, maps, strict=True):
                game.append(judge(one, ground, saliency[place], grade))
            step()
        played.names.extend(one.name for one in some)
        played.pictures.extend(pictures)
        played.looks.append(looks)
    return played


def _compare_all(maps: Sequence[NDArray[np.float32]], others: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    return np.array([compare(one, other) for one, other in zip(maps, others, strict=True)])


def _join(looks: Sequence[Looks]) -> Looks:
    return Looks(
        np.concatenate([one.probabilities for one in looks]),
        np.concatenate([one.passed for one in looks]),
        np.concatenate([one.explained for one in looks]),
        np.concatenate([one.saliency for one in looks]),
    )
