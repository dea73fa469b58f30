"""The interface of every inference engine. It imports no inference library."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from worker.core.predictions import ModelInput, Prediction
from worker.core.vocabulary import Precision
from worker.model.bundle.ensemble import Model
from worker.model.class_activation_maps import ClassMaps


@dataclass(frozen=True, slots=True)
class EngineDescription:
    """What an engine computes with.

    engine: `tensorflow`, `jax`, `openvino`, or several joined by `+`. device: its name for people, such as `NVIDIA H100
    80GB HBM3`. libraries: the versions of the inference libraries by name.
    """

    engine: str
    precision: Precision
    device: str
    libraries: Mapping[str, str]


class Engine(Protocol):
    """A model on a device. It is not thread-safe: one thread calls it at a time."""

    @property
    def bundle(self) -> Model:
        """The model."""

    @property
    def description(self) -> EngineDescription:
        """The library, the precision and the device."""

    def warm_up(self, batch_size: int) -> None:
        """Trace, compile, allocate and run once on blank images, so that the first real batch is as fast as the next.

        Raises as `predict` does.
        """

    def predict(self, enhanced: Sequence[ModelInput]) -> list[Prediction]:
        """Return the cumulative probabilities and the Grad-CAM saliency of each image, in order, in one forward pass.

        enhanced: N >= 0 images (S, S, 3), uint8, or float32 in [0, 1], or a mixture of both; S is the recipe's input
        size. For a model with several recipes, each image is a tuple with one picture for each recipe.
        The explained output is the highest one above its threshold, clipped to the model's `explained_outputs`.
        Raises ValueError for a wrong shape, type or range, ModelError for an output that is not finite, and
        AcceleratorMemoryError if the batch does not fit into the device's memory.
        """

    def class_maps(self, enhanced: Sequence[ModelInput]) -> ClassMaps:
        """Return the logits and class maps of all outputs for N >= 1 images, in one forward pass.

        Values may be not finite. Raises ModelError if the model is not explained in closed form, at its last feature
        map; otherwise ValueError and AcceleratorMemoryError as `predict` does.
        """
