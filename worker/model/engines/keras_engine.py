"""What the engines of Keras networks share; how a network is compiled and run is theirs."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from worker.core.errors import ModelError
from worker.core.predictions import ModelInput, Prediction
from worker.model.bundle.bundle import Bundle
from worker.model.class_activation_maps import ClassMaps
from worker.model.engines.batch_io import predictions_from_class_maps, to_predictions


class KerasEngine(ABC):
    """The part of an `Engine` that follows from the outputs of `build_image_function`."""

    bundle: Bundle

    def predict(self, enhanced: Sequence[ModelInput]) -> list[Prediction]:
        """See `Engine.predict`."""
        if not enhanced:
            return []
        if self.bundle.manifest.is_closed_form:
            return predictions_from_class_maps(self.class_maps(enhanced), self.bundle)
        logits, probabilities, saliency, evidence = self._run(enhanced)
        return to_predictions(logits, probabilities, saliency, evidence, self.bundle)

    def class_maps(self, enhanced: Sequence[ModelInput]) -> ClassMaps:
        """See `Engine.class_maps`."""
        manifest = self.bundle.manifest
        if not manifest.is_closed_form:
            raise ModelError(f"{manifest.name} has no class maps: it is explained at {manifest.target_layer!r}")
        return ClassMaps(*self._run(enhanced))

    @abstractmethod
    def _run(self, enhanced: Sequence[ModelInput]) -> list[NDArray[np.float32]]:
        """Return the outputs of `build_image_function` for N >= 1 images. Raises as `Engine.predict` does."""
