"""Input of the peers, converted to the model's range before the measurement."""

import numpy as np
from numpy.typing import NDArray

from worker.model.bundle.bundle import Bundle


def as_network_input(bundle: Bundle, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Convert uint8 (N, S, S, 3) to float32 in the recipe's input range."""
    low, high = bundle.recipe.input_range
    return (pictures * np.float32((high - low) / 255) + np.float32(low)).astype(np.float32)
