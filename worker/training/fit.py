"""Train a network epoch by epoch until it stops improving; resume an interrupted fit from its checkpoint."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from worker.core.storage.atomic_write import write_atomically
from worker.evaluation.screening_thresholds import ScreeningRule, choose_screening_thresholds
from worker.model.bundle.weights import parse_weights, serialise_weights
from worker.model.ordinal import DEFAULT_THRESHOLDS, Thresholds
from worker.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from worker.training.curves import draw_curves
from worker.training.dataset import UNGRADED, Dataset
from worker.training.plan import Plan
from worker.training.sampling import number_strata, order_epoch
from worker.training.split import Split
from worker.training.targets import make_targets
from worker.training.thresholds import choose_thresholds
from worker.training.trainer import Trainer, make_trainer
from worker.training.validation import SOURCE_MEAN, validate

CHECKPOINT_FILE, BEST_FILE, CURVES_FILE = "checkpoint.npz", "best.safetensors", "curves.png"
KAPPA = "quadratic_weighted_kappa"

EpochMetrics = dict[str, Any]


@dataclass(frozen=True, slots=True)
class FitCallbacks:
    """Functions that follow the progress of a fit.

    on_start: called once with the number of images trained on so far and the maximum. on_step: called after each batch
    with its loss. on_epoch: called after each epoch with its metrics.
    """

    on_start: Callable[[int, int], object] = lambda _done, _most: None
    on_step: Callable[[float], object] = lambda _loss: None
    on_epoch: Callable[[EpochMetrics], object] = lambda _row: None


@dataclass(frozen=True, slots=True)
class FitResult:
    """Final weights by name, their thresholds, the metrics of each epoch, and the validation metrics of the result."""

    weights: dict[str, NDArray[np.float32]]
    thresholds: Thresholds
    history: list[EpochMetrics]
    metrics: EpochMetrics


@dataclass(slots=True)
class _FitState:
    history: list[EpochMetrics] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    saved_at: float = field(default_factory=time.monotonic)


def fit(
    plan: Plan,
    dataset: Dataset,
    split: Split,
    folder: Path,
    *,
    initial: Mapping[str, NDArray[np.float32]] | None,
    taught: NDArray[np.float32] | None = None,
    resume: bool,
    checkpoint_every_s: float,
    callbacks: FitCallbacks,
) -> FitResult:
    """Train until the plan's last epoch or early stopping, and return the averaged weights of the best epoch.

    initial: weights to start from, None for random ones. taught: probabilities by the teacher, (N, 5), see
    `make_targets`; split.training has only images with a grade or with these. resume: continue from the checkpoint in
    `folder` if there is one; the weights are then bit-identical to those of an uninterrupted fit on the same machine
    with the same number of threads.
    """
    training, held_out = split.training, split.validation
    grades, sources = dataset.grades, dataset.sources
    targets = make_targets(grades, smoothing=plan.label_smoothing, taught=taught, teacher_share=plan.teacher_share)
    strata = number_strata(grades[training], sources[training])
    steps_per_epoch = len(_order(plan, strata, 0))
    trainer = make_trainer(plan, plan.epochs * steps_per_epoch, initial)
    state = _FitState()
    if resume and (folder / CHECKPOINT_FILE).exists():
        saved = read_checkpoint(folder / CHECKPOINT_FILE)
        trainer.restore(saved.state)
        state.history, state.losses = saved.history, saved.losses
    callbacks.on_start(trainer.steps * plan.batch_size, plan.epochs * steps_per_epoch * plan.batch_size)
    while len(state.history) < plan.epochs and not _has_converged(state.history, plan):
        epoch = len(state.history)
        order = training[_order(plan, strata, epoch)][trainer.steps - epoch * steps_per_epoch :]
        for batch in trainer.augmented_batches(dataset.enhanced, targets, order):
            state.losses.append(trainer.train_step(*batch))
            callbacks.on_step(state.losses[-1])
            if time.monotonic() - state.saved_at > checkpoint_every_s:
                _save(folder, trainer, state)
        metrics = validate(trainer.predict(dataset.enhanced[held_out]), grades[held_out], sources[held_out])
        state.history.append({"epoch": epoch + 1, "loss": float(np.mean(state.losses)), **metrics})
        state.losses = []
        if find_best_epoch(state.history, plan.choose_by) == epoch + 1:
            # Before the checkpoint: a fit killed in between repeats this epoch with the same result.
            write_atomically(folder / BEST_FILE, serialise_weights(trainer.ema_weights(), float16_kernels=False))
        _save(folder, trainer, state)
        best_epoch = find_best_epoch(state.history, plan.choose_by)
        write_atomically(folder / CURVES_FILE, draw_curves(state.history, best_epoch))
        callbacks.on_epoch(state.history[-1])
    best = folder / BEST_FILE
    weights = parse_weights(best.read_bytes(), source=str(best), architecture=plan.architecture)
    if initial is not None and plan.interpolation_share > 0:
        weights = interpolate_weights(initial, weights, plan.interpolation_share)
    elif plan.thresholds == "half":
        best_metrics = state.history[find_best_epoch(state.history, plan.choose_by) - 1]
        return FitResult(weights, DEFAULT_THRESHOLDS, state.history, best_metrics)
    trainer.set_ema_weights(weights)
    thresholds = DEFAULT_THRESHOLDS
    if plan.thresholds == "kappa":
        graded = training[grades[training] != UNGRADED]
        thresholds = choose_thresholds(trainer.predict(dataset.enhanced[graded]), grades[graded])
    validated = trainer.predict(dataset.enhanced[held_out])
    if plan.thresholds == "screening":
        thresholds = choose_screening_thresholds(validated, grades[held_out], sources[held_out], ScreeningRule())
    metrics = validate(validated, grades[held_out], sources[held_out], thresholds)
    return FitResult(weights, thresholds, state.history, metrics)


def interpolate_weights(
    first: Mapping[str, NDArray[np.float32]], last: Mapping[str, NDArray[np.float32]], share: float
) -> dict[str, NDArray[np.float32]]:
    """Interpolate linearly between the last weights (share 0) and the first (share 1).

    Source: Wortsman et al. 2022, arXiv 2109.01903.
    """
    return {name: np.asarray(share * first[name] + (1 - share) * last[name], np.float32) for name in last}


def find_best_epoch(history: list[EpochMetrics], choose_by: Literal["kappa", "loss", "auc"]) -> int:
    """Return the number of the epoch, from 1, with the best metric, averaged over the sources.

    The first of equal epochs wins; an epoch without the metric ranks last.
    """
    name, sign = {"kappa": (KAPPA, 1), "loss": ("validation_loss", -1), "auc": ("referable_auc", 1)}[choose_by]
    values = [row[f"{SOURCE_MEAN}{name}"] for row in history]
    return 1 + int(np.argmax([-np.inf if value is None else sign * value for value in values]))


def _has_converged(history: list[EpochMetrics], plan: Plan) -> bool:
    return bool(history) and len(history) - find_best_epoch(history, plan.choose_by) >= plan.patience


def _order(plan: Plan, strata: NDArray[np.int64], epoch: int) -> NDArray[np.int64]:
    return order_epoch(strata, batch_size=plan.batch_size, balance=plan.balance, seed=plan.seed, epoch=epoch)


def _save(folder: Path, trainer: Trainer, state: _FitState) -> None:
    write_checkpoint(folder / CHECKPOINT_FILE, Checkpoint(trainer.state(), trainer.steps, state.history, state.losses))
    state.saved_at = time.monotonic()
