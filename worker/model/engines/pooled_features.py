"""Read the pooled features of a model's networks, from which feature spaces are learned."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from worker.core.errors import UsageError
from worker.core.predictions import ModelInput
from worker.model.bundle.bundle import Bundle
from worker.model.bundle.ensemble import Model
from worker.model.engines.factory import openvino_unsupported_reason
from worker.model.engines.openvino_executor import OpenVinoExecutor
from worker.model.engines.openvino_graph import build_pooled_features_graph


class PooledFeatures:
    """Runs the networks of a model in float32, up to their pooled features."""

    def __init__(self, model: Model) -> None:
        """Raises UsageError for a network that OpenVINO does not support."""
        networks = (model,) if isinstance(model, Bundle) else model.networks
        for network in networks:
            if (reason := openvino_unsupported_reason(network)) is not None:
                raise UsageError(f"feature spaces are learned with OpenVINO: {reason}")
        recipes = (model.recipe, *model.extra_recipes)
        self._executors = [
            (
                OpenVinoExecutor(build_pooled_features_graph(network), network.recipe.input_size_px, "f32"),
                recipes.index(network.recipe),
            )
            for network in networks
        ]

    def read(self, images: Sequence[ModelInput]) -> list[NDArray[np.float32]]:
        """Return the pooled features (N, C) by each network of N >= 1 images."""
        pictures = [one if isinstance(one, tuple) else (one,) for one in images]
        return [executor.run([one[recipe] for one in pictures])[0] for executor, recipe in self._executors]
