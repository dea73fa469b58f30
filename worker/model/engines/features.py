"""Read the last feature maps of a model's networks, and the means of these over the picture."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from worker.core.errors import UsageError
from worker.core.predictions import ModelInput
from worker.model.bundle.bundle import Bundle
from worker.model.bundle.ensemble import Model
from worker.model.engines.factory import openvino_unsupported_reason
from worker.model.engines.openvino_executor import OpenVinoExecutor
from worker.model.engines.openvino_graph import build_feature_graph


class FeatureReader:
    """Runs the networks of a model in float32, up to their last feature maps."""

    def __init__(self, model: Model) -> None:
        """Raises UsageError for a network that OpenVINO does not support."""
        networks = (model,) if isinstance(model, Bundle) else model.networks
        for network in networks:
            if (reason := openvino_unsupported_reason(network)) is not None:
                raise UsageError(f"features are read with OpenVINO: {reason}")
        recipes = (model.recipe, *model.extra_recipes)
        self._executors = [
            (
                OpenVinoExecutor(build_feature_graph(network), network.recipe.input_size_px, "f32"),
                recipes.index(network.recipe),
            )
            for network in networks
        ]

    def read_pooled(self, images: Sequence[ModelInput]) -> list[NDArray[np.float32]]:
        """Return the pooled features (N, C) by each network of N >= 1 images."""
        return [pooled for pooled, _ in self._run(images)]

    def read_maps(self, images: Sequence[ModelInput]) -> list[NDArray[np.float32]]:
        """Return the last feature map (N, C, h, w) by each network of N >= 1 images."""
        return [maps for _, maps in self._run(images)]

    def _run(self, images: Sequence[ModelInput]) -> list[list[NDArray[np.float32]]]:
        pictures = [one if isinstance(one, tuple) else (one,) for one in images]
        return [executor.run([one[recipe] for one in pictures]) for executor, recipe in self._executors]
