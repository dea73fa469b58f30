"""Training steps: AdamW on cumulative targets, with an exponential moving average (EMA) of the weights."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from worker.model.engines.factory import NVIDIA_DEVICE, exact_engine
from worker.model.network.backend import Backend, jax_supports_gpus, use_backend
from worker.training.plan import Plan

Batch = tuple[Any, Any]
"""Images uint8 (N, S, S, 3) RGB and targets float32 (N, 5), as tensors of the backend."""


class Trainer(Protocol):
    """The variables of a fit; all randomness is a function of the plan's seed and the step number."""

    @property
    def steps(self) -> int:
        """Number of batches trained on."""

    def augmented_batches(
        self, enhanced: NDArray[np.uint8], targets: NDArray[np.float32], order: NDArray[np.int64]
    ) -> Iterator[Batch]:
        """Yield one augmented batch for each row of `order`; the next ones are prepared while one is trained on.

        enhanced: uint8 (N, S, S, 3). targets: float32 (N, 5), those of `make_targets`. order: int (steps, batch_size),
        indices into both, from the current step on. The augmentation of a batch depends on its step and plan.seed
        alone, so a resumed fit sees the same batches.
        """

    def train_step(self, images: Any, targets: Any) -> float:
        """Train on one batch and return its loss before the update.

        images: uint8 (N, S, S, 3). targets: float32 (N, 5).
        """

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the cumulative probabilities of the averaged network, float32 (N, 5). images: uint8 (N, S, S, 3)."""

    def set_ema_weights(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        """Replace the averaged weights, so that `predict` uses these. Do not train afterwards."""

    def ema_weights(self) -> dict[str, NDArray[np.float32]]:
        """Return the averaged weights by the names of a bundle."""

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return every variable by name; after `restore`, training continues bit-identically."""

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Load what `state` returned under the same plan."""


def choose_backend() -> Backend:
    """Return JAX where it can use a GPU, else the first installed backend. Raises SettingsError without any."""
    return "jax" if NVIDIA_DEVICE.exists() and jax_supports_gpus() else exact_engine()


def prepare_backend(backend: Backend, threads: int | None) -> None:
    """Load the backend and limit its threads; None keeps its default, or fewer under a CPU quota.

    Call it before the first module that imports Keras. Raises SettingsError as `use_backend` does.
    """
    use_backend(backend)
    if backend == "jax":
        from worker.training.jax_trainer import prepare_device

        prepare_device(threads)
    else:
        from worker.training.tensorflow_trainer import limit_threads

        limit_threads(threads)


def make_trainer(plan: Plan, total_steps: int, initial: Mapping[str, NDArray[np.float32]] | None) -> Trainer:
    """Return a trainer on the plan's backend.

    initial: weights to start from, by the names of a bundle; None draws random ones. Raises SettingsError as
    `use_backend` does.
    """
    use_backend(plan.backend)
    if plan.backend == "jax":
        from worker.training.jax_trainer import JaxTrainer

        return JaxTrainer(plan, total_steps, initial)
    from worker.training.tensorflow_trainer import TensorFlowTrainer

    return TensorFlowTrainer(plan, total_steps, initial)
