"""Fit a network to prepared pictures, epoch by epoch, until it gets no better; go on where a killed fit stopped."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from worker.core.storage.atomic_write import write_atomically
from worker.model.bundle.weights import parse_weights, serialise_weights
from worker.model.ordinal import DEFAULT_THRESHOLDS, Thresholds
from worker.training.batches import augmented_batches
from worker.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from worker.training.curves import draw_curves
from worker.training.dataset import Dataset
from worker.training.plan import Plan
from worker.training.sampling import order_epoch
from worker.training.thresholds import choose_thresholds
from worker.training.trainer import Trainer
from worker.training.validation import validate

CHECKPOINT_FILE, BEST_FILE, CURVES_FILE = "checkpoint.npz", "best.safetensors", "curves.png"
KAPPA = "quadratic_weighted_kappa"

EpochMetrics = dict[str, Any]


@dataclass(frozen=True, slots=True)
class FitCallbacks:
    """What hears of a fit on its way.

    `on_start`: images shown so far and the maximum; `on_step`: after each batch, with its loss;
    `on_epoch` with each row of figures.
    """

    on_start: Callable[[int, int], object] = lambda _done, _most: None
    on_step: Callable[[float], object] = lambda _loss: None
    on_epoch: Callable[[EpochMetrics], object] = lambda _row: None


@dataclass(frozen=True, slots=True)
class FitResult:
    """The bundle's weights by name and its thresholds, a row of figures for each epoch, and those of the bundle."""

    weights: dict[str, NDArray[np.float32]]
    thresholds: Thresholds
    history: list[EpochMetrics]
    figures: EpochMetrics


@dataclass(slots=True)
class _FitState:
    history: list[EpochMetrics] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    saved_at: float = field(default_factory=time.monotonic)


def fit(
    plan: Plan,
    dataset: Dataset,
    validation: NDArray[np.bool_],
    folder: Path,
    *,
    initial: Mapping[str, NDArray[np.float32]] | None,
    resume: bool,
    checkpoint_every_s: float,
    callbacks: FitCallbacks,
) -> FitResult:
    """The averaged weights of the best epoch, thresholds for them, and a row of figures for each epoch.

    validation: bool (N,), which pictures judge; the others are learnt from. resume: go on from the checkpoint in
    `folder`, where there is one; the weights are then, to the bit, those of a fit that never stopped. That holds on one
    machine with one number of threads.
    """
    training, judges = np.flatnonzero(~validation), np.flatnonzero(validation)
    grades = dataset.grades
    steps_per_epoch = len(_order(plan, grades[training], 0))
    trainer = Trainer(plan, plan.epochs * steps_per_epoch, initial)
    done = _FitState()
    if resume and (folder / CHECKPOINT_FILE).exists():
        saved = read_checkpoint(folder / CHECKPOINT_FILE)
        trainer.restore(saved.state)
        done.history, done.losses = saved.history, saved.losses
    callbacks.on_start(trainer.steps * plan.batch_size, plan.epochs * steps_per_epoch * plan.batch_size)
    while len(done.history) < plan.epochs and not _has_converged(done.history, plan):
        epoch = len(done.history)
        order = training[_order(plan, grades[training], epoch)][trainer.steps - epoch * steps_per_epoch :]
        for batch in augmented_batches(dataset.enhanced, grades, order, plan, first_step=trainer.steps):
            done.losses.append(trainer.train_step(*batch))
            callbacks.on_step(done.losses[-1])
            if time.monotonic() - done.saved_at > checkpoint_every_s:
                _save(folder, trainer, done)
        figures = validate(trainer.predict(dataset.enhanced[judges]), grades[judges])
        done.history.append({"epoch": epoch + 1, "loss": float(np.mean(done.losses)), **figures})
        done.losses = []
        if find_best_epoch(done.history, plan.choose_by) == epoch + 1:
            # Before the checkpoint: killed in between, the fit does this epoch again and comes to the same.
            write_atomically(folder / BEST_FILE, serialise_weights(trainer.ema_weights(), float16_kernels=False))
        _save(folder, trainer, done)
        write_atomically(folder / CURVES_FILE, draw_curves(done.history, find_best_epoch(done.history, plan.choose_by)))
        callbacks.on_epoch(done.history[-1])
    best = folder / BEST_FILE
    weights = parse_weights(best.read_bytes(), source=str(best), architecture=plan.architecture)
    if initial is not None and plan.initial_share > 0:
        weights = interpolate_weights(initial, weights, plan.initial_share)
    elif plan.thresholds == "half":
        return FitResult(
            weights, DEFAULT_THRESHOLDS, done.history, done.history[find_best_epoch(done.history, plan.choose_by) - 1]
        )
    trainer.set_ema_weights(weights)
    thresholds = DEFAULT_THRESHOLDS
    if plan.thresholds == "kappa":
        thresholds = choose_thresholds(trainer.predict(dataset.enhanced[training]), grades[training])
    figures = validate(trainer.predict(dataset.enhanced[judges]), grades[judges], thresholds)
    return FitResult(weights, thresholds, done.history, figures)


def interpolate_weights(
    first: Mapping[str, NDArray[np.float32]], last: Mapping[str, NDArray[np.float32]], share: float
) -> dict[str, NDArray[np.float32]]:
    """Each weight on the straight line from the last, at a share of 0, to the first, at 1."""
    return {name: np.asarray(share * first[name] + (1 - share) * last[name], np.float32) for name in last}


def find_best_epoch(history: list[EpochMetrics], choose_by: Literal["kappa", "loss"]) -> int:
    """The epoch with the highest kappa, or the lowest loss on the validation pictures; the first of equals.

    An epoch whose kappa cannot be told is the worst.
    """
    if choose_by == "loss":
        return 1 + int(np.argmin([row["validation_loss"] for row in history]))
    kappas = [-np.inf if row[KAPPA] is None else row[KAPPA] for row in history]
    return 1 + int(np.argmax(kappas))


def _has_converged(history: list[EpochMetrics], plan: Plan) -> bool:
    return bool(history) and len(history) - find_best_epoch(history, plan.choose_by) >= plan.patience


def _order(plan: Plan, grades: NDArray[np.int64], epoch: int) -> NDArray[np.int64]:
    return order_epoch(grades, batch_size=plan.batch_size, balance=plan.balance, seed=plan.seed, epoch=epoch)


def _save(folder: Path, trainer: Trainer, done: _FitState) -> None:
    write_checkpoint(folder / CHECKPOINT_FILE, Checkpoint(trainer.state(), trainer.steps, done.history, done.losses))
    done.saved_at = time.monotonic()
