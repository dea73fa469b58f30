"""JAX: forward pass only, one compiled program in float32, with its input on the device."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.engine_process import EngineOutput
from tests.benchmarks.peers.inputs import as_network_input
from worker.model.bundle.bundle import Bundle
from worker.model.network.backend import use_backend


def load(bundle: Bundle, pictures: NDArray[np.uint8]) -> Callable[[], EngineOutput]:
    """Load probabilities only."""
    use_backend("jax")
    from worker.model.network.build import load_network

    network = load_network(bundle)
    images = jax.device_put(as_network_input(bundle, pictures))
    state = jax.device_put(
        [[one.value for one in network.trainable_variables], [one.value for one in network.non_trainable_variables]]
    )

    @jax.jit
    def forward(variables: Any, batch: jax.Array) -> jax.Array:
        output: jax.Array = network.stateless_call(*variables, batch, training=False)[0]
        return output

    return lambda: (np.asarray(forward(state, images)), None)
