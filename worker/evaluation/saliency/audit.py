"""Put a model's maps to all the trials, photograph by photograph."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worker.core.predictions import ModelInput
from worker.core.vocabulary import Grade
from worker.evaluation.saliency.deletion_insertion import PerturbationCurves, measure_deletion_insertion
from worker.evaluation.saliency.explainer import BATCH, Explainer, Explanations
from worker.evaluation.saliency.lesion_masks import enhance_for, read_annotated
from worker.evaluation.saliency.pointing_game import PointingScore, find_lesion_areas, score_map
from worker.evaluation.saliency.rank_correlation import rank_correlation, to_grid
from worker.evaluation.saliency.rotation_stability import ANGLES_DEG, RotationResult, measure_rotation
from worker.evaluation.saliency.weight_randomisation import list_stages, randomise_weights
from worker.model.bundle.ensemble import Model
from worker.model.engines.factory import EngineName

CONTROL_SEEDS = (0, 1, 2)
"""Of the models that have learnt nothing; one alone may be lucky."""


@dataclass(frozen=True, slots=True)
class AuditResults:
    """pointed: the model's game. by_chance: for each of RANDOM_SEEDS the game of a model whose layers are all redrawn,
    explaining the same outputs. redrawn: likeness of each map with that of the model redrawn to each stage. others:
    likeness of each map with the next photograph's.
    """

    pointed: list[PointingScore]
    by_chance: list[list[PointingScore]]
    erased: list[PerturbationCurves] = field(default_factory=list)
    redrawn: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    turned: list[RotationResult] = field(default_factory=list)
    others: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True, slots=True)
class _PointingRun:
    names: list[str]
    pictures: list[ModelInput]
    explanations: list[Explanations]
    games: list[list[PointingScore]]


def audit_saliency(
    engine: EngineName,
    model: Model,
    folder: Path,
    *,
    quick: bool,
    on_warning: Callable[[str], object],
    on_progress: Callable[[str], object],
) -> AuditResults:
    """quick: the pointing game alone. `on_progress` is called with the trial's name after each photograph or pass.

    Raises and warns as `read_annotated`.
    """
    explainer = Explainer(engine, model)
    random = [Explainer(engine, randomise_weights(model, 1.0, seed), either_sign=True) for seed in CONTROL_SEEDS]
    played = _run_pointing_games(explainer, random, folder, on_warning, lambda: on_progress("pointing"))
    game, *by_chance = played.games
    if quick:
        return AuditResults(game, by_chance)
    explanations = _join(played.explanations)
    maps = [to_grid(one) for one in explanations.saliency]
    redrawn = {}
    for name, share in list_stages(model).items():
        changed = Explainer(engine, randomise_weights(model, share, CONTROL_SEEDS[0]), either_sign=True)
        found = changed.explain(played.pictures, explanations.explained).saliency
        redrawn[name] = _compare_all(maps, [to_grid(one) for one in found])
        on_progress("redrawing")
    turned = []
    for degrees in ANGLES_DEG:
        turned.append(measure_rotation(explainer, played.pictures, explanations, degrees))
        on_progress("turning")
    erased = measure_deletion_insertion(
        explainer,
        played.names,
        played.pictures,
        explanations.saliency,
        explanations.explained,
        on_progress=lambda: on_progress("erasing"),
    )
    others = _compare_all(maps, maps[1:] + maps[:1])
    return AuditResults(game, by_chance, erased, redrawn, turned, others)


def _run_pointing_games(
    explainer: Explainer,
    random: Sequence[Explainer],
    folder: Path,
    on_warning: Callable[[str], object],
    on_progress: Callable[[], object],
) -> _PointingRun:
    """Each photograph is read, and its lesions are measured, once for all models."""
    played = _PointingRun([], [], [], [[] for _ in (explainer, *random)])
    marked = read_annotated(folder, explainer.model, on_warning)
    while some := list(islice(marked, BATCH)):
        pictures = [enhance_for(explainer.model, one) for one in some]
        explanations = explainer.explain(pictures)
        maps = [explanations.saliency, *(other.explain(pictures, explanations.explained).saliency for other in random)]
        for place, one in enumerate(some):
            ground, grade = find_lesion_areas(one), Grade(int(explanations.passed[place]))
            for game, saliency in zip(played.games, maps, strict=True):
                game.append(score_map(one, ground, saliency[place], grade))
            on_progress()
        played.names.extend(one.name for one in some)
        played.pictures.extend(pictures)
        played.explanations.append(explanations)
    return played


def _compare_all(maps: Sequence[NDArray[np.float32]], others: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    return np.array([rank_correlation(one, other) for one, other in zip(maps, others, strict=True)])


def _join(explanations: Sequence[Explanations]) -> Explanations:
    return Explanations(
        np.concatenate([one.probabilities for one in explanations]),
        np.concatenate([one.passed for one in explanations]),
        np.concatenate([one.explained for one in explanations]),
        np.concatenate([one.saliency for one in explanations]),
    )
