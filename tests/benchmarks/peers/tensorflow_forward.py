"""TensorFlow: forward pass only, one traced graph in float32, with its input as a tensor."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tests.benchmarks.engine_process import EngineOutput
from tests.benchmarks.peers.inputs import as_network_input
from worker.model.bundle.bundle import Bundle
from worker.model.network.build import load_network


def load(bundle: Bundle, pictures: NDArray[np.uint8]) -> Callable[[], EngineOutput]:
    """Load probabilities only."""
    network = load_network(bundle)
    images = tf.constant(as_network_input(bundle, pictures))
    forward = tf.function(
        lambda batch: network(batch, training=False),
        autograph=False,
        input_signature=[tf.TensorSpec(images.shape, tf.float32)],
    )
    return lambda: (forward(images).numpy(), None)
