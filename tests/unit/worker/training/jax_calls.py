"""What the tests of the JAX trainer call in its process."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.training.plan import DEFAULT_RECIPE, Plan
from worker.training.targets import make_targets
from worker.training.trainer import Trainer, make_trainer

SIDE = 32
BATCH = 4
PICTURES = np.random.default_rng(0).integers(0, 255, (12, SIDE, SIDE, 3), np.uint8)
TARGETS = make_targets(np.arange(12) % 5, smoothing=0.0)
ORDER = np.arange(12).reshape(3, BATCH)

State = dict[str, NDArray[np.generic]]


def make_plan(**changes: Any) -> Plan:
    fields = {
        "manifest_sha256": "0" * 64,
        "recipe": DEFAULT_RECIPE.model_copy(update={"input_size_px": SIDE}),
        "architecture": "mobilenet",
        "backend": "jax",
        "precision": "float32",
        "batch_size": BATCH,
        "warm_up_share": 0.0,
    }
    return Plan.model_validate({**fields, **changes})


def train(trainer: Trainer) -> list[float]:
    """Train on the rest of the epoch."""
    order = ORDER[trainer.steps :]
    return [trainer.train_step(*batch) for batch in trainer.augmented_batches(PICTURES, TARGETS, order)]


def resume_after(steps: int) -> tuple[list[float], State, list[float], State]:
    """Train three steps at once, and again with a stop after some of them; return losses and states of both."""
    whole = make_trainer(make_plan(), 10, None)
    losses = train(whole)
    first = make_trainer(make_plan(), 10, None)
    batches = first.augmented_batches(PICTURES, TARGETS, ORDER)
    parts = [first.train_step(*next(batches)) for _ in range(steps)]
    second = make_trainer(make_plan(), 10, None)
    second.restore(first.state())
    return losses, whole.state(), parts + train(second), second.state()


def predict_averaged() -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]], float]:
    """Return predictions of all pictures, the averaged weights, and the loss of a step without dropout at rate 0."""
    trainer = make_trainer(make_plan(), 10, None)
    (loss, *_) = train(trainer)
    return trainer.predict(PICTURES), trainer.ema_weights(), loss


def train_from(layer: str) -> set[str]:
    """Return the layers that a step changes where the ones before this layer are not trained."""
    trainer = make_trainer(make_plan(trained_from=layer), 10, None)
    before = trainer.ema_weights()
    train(trainer)
    after = trainer.ema_weights()
    return {name.split("/")[0] for name, array in before.items() if not np.array_equal(after[name], array)}


def overfit(steps: int) -> list[float]:
    """Return the losses of training on one batch without augmentation."""
    trainer = make_trainer(make_plan(learning_rate=3e-3), steps, None)
    import jax.numpy as jnp

    return [trainer.train_step(jnp.asarray(PICTURES[:BATCH]), jnp.asarray(TARGETS[:BATCH])) for _ in range(steps)]


def mix_many(images: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """Mix with the largest share."""
    import jax

    from worker.training.jax_amplitude_mixing import mix_amplitudes

    recipe = DEFAULT_RECIPE.model_copy(update={"input_size_px": images.shape[1]})
    return np.asarray(mix_amplitudes(images, jax.random.key(seed), recipe, 1.0))


def augment_many(images: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    import jax

    from worker.training.jax_augment import augment

    recipe = DEFAULT_RECIPE.model_copy(update={"input_size_px": images.shape[1]})
    return np.asarray(jax.jit(lambda given: augment(given, jax.random.key(seed), recipe))(images))
