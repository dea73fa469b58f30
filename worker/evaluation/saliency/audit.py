"""Run all tests of the saliency maps of a model on photographs with lesion masks."""

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
from worker.evaluation.saliency.lesion_coverage import LesionCoverage, measure_coverage
from worker.evaluation.saliency.lesion_masks import enhance_for, read_annotated
from worker.evaluation.saliency.pointing_game import PointingScore, find_lesion_areas, score_map
from worker.evaluation.saliency.rank_correlation import rank_correlation, to_grid
from worker.evaluation.saliency.rotation_stability import ANGLES_DEG, RotationResult, measure_rotation
from worker.evaluation.saliency.weight_randomisation import list_stages, randomise_weights
from worker.model.bundle.ensemble import Model
from worker.model.engines.factory import EngineName

CONTROL_SEEDS = (0, 1, 2)
"""Seeds of the control models with random weights; several, because one can score well by chance."""


@dataclass(frozen=True, slots=True)
class AuditResults:
    """Results of all tests, image by image.

    pointing: scores of the model. coverage: of lesions by its maps. controls: for each of CONTROL_SEEDS, scores of the
    model with random weights that explains the same outputs. randomisation: by stage, rank correlation of each map with
    that of the randomised model. other_images: rank correlation of each map with the next photograph's.
    """

    pointing: list[PointingScore]
    coverage: list[LesionCoverage]
    controls: list[list[PointingScore]]
    perturbation: list[PerturbationCurves] = field(default_factory=list)
    randomisation: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    rotations: list[RotationResult] = field(default_factory=list)
    other_images: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True, slots=True)
class _PointingRun:
    names: list[str]
    images: list[ModelInput]
    explanations: list[Explanations]
    scores: list[list[PointingScore]]
    coverage: list[LesionCoverage]


def audit_saliency(
    engine: EngineName,
    model: Model,
    folder: Path,
    *,
    quick: bool,
    on_warning: Callable[[str], object],
    on_progress: Callable[[str], object],
) -> AuditResults:
    """Test the saliency maps of a model on the photographs of a folder with lesion masks.

    quick: run only the pointing game. on_progress: called with the name of the test after each photograph or pass.
    Raises and warns like `read_annotated`.
    """
    explainer = Explainer(engine, model)
    controls = [Explainer(engine, randomise_weights(model, 1.0, seed), either_sign=True) for seed in CONTROL_SEEDS]
    run = _run_pointing_games(explainer, controls, folder, on_warning, lambda: on_progress("pointing game"))
    pointing, *control_scores = run.scores
    if quick:
        return AuditResults(pointing, run.coverage, control_scores)
    explanations = _concatenate(run.explanations)
    maps = [to_grid(saliency) for saliency in explanations.saliency]
    randomisation = {}
    for name, share in list_stages(model).items():
        randomised = Explainer(engine, randomise_weights(model, share, CONTROL_SEEDS[0]), either_sign=True)
        saliency = randomised.explain(run.images, explanations.explained).saliency
        randomisation[name] = _correlate(maps, [to_grid(one) for one in saliency])
        on_progress("weight randomisation")
    rotations = []
    for degrees in ANGLES_DEG:
        rotations.append(measure_rotation(explainer, run.images, explanations, degrees))
        on_progress("rotation")
    perturbation = measure_deletion_insertion(
        explainer,
        run.names,
        run.images,
        explanations.saliency,
        explanations.explained,
        on_progress=lambda: on_progress("deletion and insertion"),
    )
    other_images = _correlate(maps, maps[1:] + maps[:1])
    return AuditResults(pointing, run.coverage, control_scores, perturbation, randomisation, rotations, other_images)


def _run_pointing_games(
    explainer: Explainer,
    controls: Sequence[Explainer],
    folder: Path,
    on_warning: Callable[[str], object],
    on_progress: Callable[[], object],
) -> _PointingRun:
    """Score the maps of all models; each photograph is read once."""
    run = _PointingRun([], [], [], [[] for _ in (explainer, *controls)], [])
    photographs = read_annotated(folder, explainer.model, on_warning)
    while batch := list(islice(photographs, BATCH)):
        images = [enhance_for(explainer.model, photograph) for photograph in batch]
        explanations = explainer.explain(images)
        outputs = explanations.explained
        maps = [explanations.saliency, *(control.explain(images, outputs).saliency for control in controls)]
        for index, photograph in enumerate(batch):
            areas, grade = find_lesion_areas(photograph), Grade(int(explanations.passed[index]))
            for scores, saliency in zip(run.scores, maps, strict=True):
                scores.append(score_map(photograph, areas, saliency[index], grade))
            run.coverage.append(measure_coverage(photograph, explanations.saliency[index]))
            on_progress()
        run.names.extend(photograph.name for photograph in batch)
        run.images.extend(images)
        run.explanations.append(explanations)
    return run


def _correlate(maps: Sequence[NDArray[np.float32]], others: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    return np.array([rank_correlation(one, other) for one, other in zip(maps, others, strict=True)])


def _concatenate(explanations: Sequence[Explanations]) -> Explanations:
    return Explanations(
        np.concatenate([one.probabilities for one in explanations]),
        np.concatenate([one.passed for one in explanations]),
        np.concatenate([one.explained for one in explanations]),
        np.concatenate([one.saliency for one in explanations]),
    )
