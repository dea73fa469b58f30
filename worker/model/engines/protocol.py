"""What every inference engine offers; importable without any."""

from collections.abc import Sequence
from typing import Protocol

from worker.core.predictions import ModelInput, Prediction
from worker.model.bundle.bundle import Bundle
from worker.model.bundle.ensemble import Model
from worker.model.class_activation_maps import ClassMaps


class Engine(Protocol):
    """A model on a device. One thread at a time calls it."""

    @property
    def bundle(self) -> Model:
        """The model that it runs."""

    @property
    def device(self) -> str:
        """Where it runs, for people: `CPU (2 cores)`, `GPU NVIDIA H100 80GB HBM3`."""

    def warm_up(self, batch_size: int) -> None:
        """Trace, allocate and run once on blank images, so that the first real batch is as quick as the next.

        Raises as `predict` does.
        """

    def predict(self, enhanced: Sequence[ModelInput]) -> list[Prediction]:
        """Cumulative probabilities and Grad-CAM saliency of a batch, in one forward pass.

        enhanced: N >= 0 images (S, S, 3), uint8 or float32 in [0, 1], mixed or not; S is the recipe's input size. For a
        model of several recipes each is a tuple, one picture for each recipe.
        Returns N predictions in order; the explained output is the highest one above its
        threshold, brought within the model's `explained_outputs`.
        Raises ValueError for another shape, type or range, ModelError if the network yields a value that is not finite,
        AcceleratorMemoryError if the batch does not fit the device.
        """


class ClassMapEngine(Protocol):
    """A model on a device that tells of all its outputs, not of the explained one alone."""

    def class_maps(self, enhanced: Sequence[ModelInput]) -> ClassMaps:
        """Logits and signed maps of all outputs, of N >= 1 images. Raises as `MemberEngine.class_maps` does."""


class MemberEngine(Protocol):
    """A network of an ensemble on a device: it weighs, and the ensemble decides what is explained."""

    @property
    def bundle(self) -> Bundle:
        """The network that it runs."""

    @property
    def device(self) -> str:
        """See `Engine.device`."""

    def warm_up(self, batch_size: int) -> None:
        """See `Engine.warm_up`."""

    def class_maps(self, enhanced: Sequence[ModelInput]) -> ClassMaps:
        """Logits and signed maps of all outputs, of N >= 1 images, in one forward pass.

        Raises ValueError and AcceleratorMemoryError as `Engine.predict` does; values may be not finite.
        """
