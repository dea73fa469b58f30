"""Training steps with JAX, see `Trainer`: each is one compiled program, which also augments."""

import os
import random
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import keras
import numpy as np
from numpy.typing import NDArray

from worker.core.machine import quota_cores
from worker.model.architecture import HEAD
from worker.model.engines.factory import NVIDIA_DEVICE
from worker.model.engines.jax_device import enable_compile_cache
from worker.model.network.build import (
    DROPOUT_RATE,
    assign_weights,
    build_network,
    get_backbone,
    get_weights,
    name_variables,
)
from worker.model.network.graph import scale_images
from worker.model.ordinal import OUTPUTS
from worker.training.jax_amplitude_mixing import mix_amplitudes
from worker.training.jax_augment import augment
from worker.training.optimizer import build_optimizer, freeze_before
from worker.training.plan import Plan

PREDICT_BATCH = 32
PURPOSES = ("augment", "dropout", "mix")
"""What random numbers are for: each has a stream of its own."""
_DETERMINISTIC = "--xla_gpu_deterministic_ops=true"

Arrays = list[jax.Array]
Batch = tuple[jax.Array, jax.Array]
"""Images uint8 (N, S, S, 3) RGB and targets float32 (N, 5)."""


class _State(NamedTuple):
    """Values of all variables in the order of `name_variables`, their averages, the optimizer's, and the steps."""

    network: Arrays
    average: Arrays
    optimizer: Arrays
    steps: jax.Array


class JaxTrainer:
    """A `Trainer` whose steps are programs of JAX."""

    def __init__(self, plan: Plan, total_steps: int, initial: Mapping[str, NDArray[np.float32]] | None) -> None:
        """initial: weights to start from, by the names of a bundle; None draws random ones."""
        prepare_device(plan.threads)
        # Keras draws the seed of each layer from Python's. Its `set_random_seed` would import TensorFlow.
        random.seed(plan.seed)
        self._plan = plan
        self._network = build_network(plan.recipe.input_size_px, plan.architecture, plan.precision)
        if plan.trained_from is not None:
            freeze_before(self._network, plan.trained_from)
        if initial is not None:
            assign_weights(self._network, initial)
        self._variables = list(name_variables(self._network).values())
        self._optimizer = build_optimizer(plan, total_steps, self._network)
        places = {id(variable): place for place, variable in enumerate(self._variables)}
        self._trained = [places[id(variable)] for variable in self._network.trainable_variables]
        # The states of the backbone's own dropout are not among its weights.
        self._seeds = [variable for variable in self._network.variables if id(variable) not in places]
        values = [variable.value for variable in self._variables]
        # The step overwrites its arguments: no array may appear twice.
        copies = [jnp.array(value, copy=True) for value in values]
        optimizer = [variable.value for variable in self._optimizer.variables]
        self._state = _State(values, copies, optimizer, jnp.zeros((), jnp.int32))
        self._augment = jax.jit(self._augment_batch)
        self._train = jax.jit(self._train_batch, donate_argnums=0)
        self._predict = jax.jit(self._predict_batch)

    @property
    def steps(self) -> int:
        """Number of batches trained on."""
        return int(self._state.steps)

    def augmented_batches(
        self, enhanced: NDArray[np.uint8], targets: NDArray[np.float32], order: NDArray[np.int64]
    ) -> Iterator[Batch]:
        """See `Trainer.augmented_batches`. JAX works on a batch while Python reads the next one."""
        waiting: Batch | None = None
        for step, indices in enumerate(order, start=self.steps):
            prepared = self._augment(enhanced[indices], jnp.int32(step)), jnp.asarray(targets[indices], jnp.float32)
            if waiting is not None:
                yield waiting
            waiting = prepared
        if waiting is not None:
            yield waiting

    def train_step(self, images: jax.Array, targets: jax.Array) -> float:
        """See `Trainer.train_step`."""
        self._state, loss = self._train(self._state, images, targets)
        return float(loss)

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `Trainer.predict`."""
        parts = [np.empty((0, OUTPUTS), np.float32)]
        for start in range(0, len(images), PREDICT_BATCH):
            part = images[start : start + PREDICT_BATCH]
            padded = np.concatenate([part, np.zeros((PREDICT_BATCH - len(part), *part.shape[1:]), np.uint8)])
            parts.append(np.asarray(self._predict(self._state.average, padded))[: len(part)])
        return np.concatenate(parts)

    def set_ema_weights(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        """See `Trainer.set_ema_weights`."""
        assign_weights(self._network, weights)
        self._state = self._state._replace(average=[variable.value for variable in self._variables])

    def ema_weights(self) -> dict[str, NDArray[np.float32]]:
        """See `Trainer.ema_weights`."""
        for variable, value in zip(self._variables, self._state.average, strict=True):
            variable.assign(value)
        return get_weights(self._network)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """See `Trainer.state`."""
        groups = {name: getattr(self._state, name) for name in ("network", "average", "optimizer")}
        named = {
            f"{group}/{place}": np.asarray(one) for group, some in groups.items() for place, one in enumerate(some)
        }
        return {**named, "steps": np.asarray(self._state.steps)}

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """See `Trainer.restore`."""

        def load(group: str) -> Arrays:
            return [jnp.asarray(state[f"{group}/{place}"]) for place in range(len(getattr(self._state, group)))]

        self._state = _State(load("network"), load("average"), load("optimizer"), jnp.asarray(state["steps"]))

    def _augment_batch(self, images: jax.Array, step: jax.Array) -> jax.Array:
        recipe = self._plan.recipe
        if self._plan.amplitude_mixing > 0:
            images = mix_amplitudes(images, self._key(step, "mix"), recipe, self._plan.amplitude_mixing)
        return augment(images, self._key(step, "augment"), recipe)

    def _train_batch(self, state: _State, images: jax.Array, targets: jax.Array) -> tuple[_State, jax.Array]:

        def compute_loss(trained: Arrays) -> tuple[jax.Array, Arrays]:
            values = self._replace(state.network, trained)
            with self._scope(values, state.steps) as scope:
                pooled = self._pool(images, training=True)
                kept = jax.random.bernoulli(self._key(state.steps, "dropout"), 1 - DROPOUT_RATE, pooled.shape)
                logits = self._logits(jnp.where(kept, pooled / (1 - DROPOUT_RATE), 0))
            losses = -targets * jax.nn.log_sigmoid(logits) - (1 - targets) * jax.nn.log_sigmoid(-logits)
            return losses.mean(), [scope.get_current_value(variable) for variable in self._variables]

        trained = [state.network[place] for place in self._trained]
        (loss, values), gradients = jax.value_and_grad(compute_loss, has_aux=True)(trained)
        trained, optimizer = self._optimizer.stateless_apply(state.optimizer, gradients, trained)
        network = self._replace(values, trained)
        steps = state.steps + 1
        # A small decay at first, so that the average forgets the initial weights quickly.
        decay = jnp.minimum(self._plan.ema_decay, (1 + steps) / (10 + steps))
        average = [
            # EfficientNet has an integer counter among its weights, which cannot be averaged.
            mean + (1 - decay) * (value - mean) if jnp.issubdtype(mean.dtype, jnp.floating) else mean
            for mean, value in zip(state.average, network, strict=True)
        ]
        return _State(network, average, optimizer, steps), loss

    def _predict_batch(self, average: Arrays, images: jax.Array) -> jax.Array:
        with self._scope(average):
            return jax.nn.sigmoid(self._logits(self._pool(images, training=False)))

    def _scope(self, values: Arrays, steps: jax.Array | int = 0) -> Any:
        seeds = [jnp.array([place, steps], jnp.uint32) for place in range(len(self._seeds))]
        pairs = zip([*self._variables, *self._seeds], [*values, *seeds], strict=True)
        return keras.StatelessScope(state_mapping=list(pairs))

    def _replace(self, values: Arrays, trained: Arrays) -> Arrays:
        """Return the values with those of the trained variables replaced."""
        replaced = dict(zip(self._trained, trained, strict=True))
        return [replaced.get(place, value) for place, value in enumerate(values)]

    def _pool(self, images: jax.Array, *, training: bool) -> jax.Array:
        features = get_backbone(self._network)(scale_images(images, 255.0, self._plan.recipe), training=training)
        return features.astype(jnp.float32).mean(axis=(1, 2))

    def _logits(self, pooled: jax.Array) -> jax.Array:
        # The head runs in float32: bfloat16 resolves probabilities only to 0.004.
        head = self._network.get_layer(HEAD)
        return pooled @ head.kernel.value + head.bias.value

    def _key(self, step: jax.Array, purpose: str) -> jax.Array:
        key = jax.random.key(self._plan.seed)
        return jax.random.fold_in(jax.random.fold_in(key, PURPOSES.index(purpose)), step)


def prepare_device(threads: int | None) -> None:
    """Limit the threads, and let GPUs sum in a fixed order; JAX reads both when it opens the device.

    Compiled steps are kept, so that a resumed fit does not compile again.
    """
    cores = threads or quota_cores()
    if cores is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    flags = os.environ.get("XLA_FLAGS", "")
    if NVIDIA_DEVICE.exists() and _DETERMINISTIC not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_DETERMINISTIC}".strip()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    enable_compile_cache(None)
