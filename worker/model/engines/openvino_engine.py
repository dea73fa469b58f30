"""Grade and explain batches on a CPU with OpenVINO."""

from collections.abc import Sequence

from worker.core.errors import ModelError
from worker.core.predictions import Enhanced, Prediction
from worker.model.activation_maps import Evidence
from worker.model.bundle.bundle import Bundle
from worker.model.engines.batch_arrays import blank_images, to_predictions
from worker.model.engines.openvino_graph import (
    Operands,
    as_they_are,
    build_openvino_evidence_graph,
    build_openvino_graph,
)
from worker.model.engines.openvino_program import OpenVinoProgram, Precision


class OpenVinoEngine:
    """An `Engine` of the graph that TensorFlow runs."""

    def __init__(self, bundle: Bundle, precision: Precision | None = None) -> None:
        """precision: the quicker of the floats unless given. Raises ModelError for int8 without ranges."""
        self.bundle = bundle
        graph = build_openvino_graph(bundle, _operands(bundle, precision))
        self._program = OpenVinoProgram(graph, bundle.recipe.input_size_px, precision)
        self.device = self._program.device

    def warm_up(self, batch_size: int) -> None:
        """See `Engine.warm_up`. `batch_size` is the full batch from now on."""
        self._program.prepare(batch_size)
        self.predict(blank_images(self.bundle.recipe.input_size_px, batch_size))

    def predict(self, enhanced: Sequence[Enhanced]) -> list[Prediction]:
        """See `Engine.predict`."""
        if not enhanced:
            return []
        logits, probabilities, saliency = self._program.run(enhanced)
        return to_predictions(logits, probabilities, saliency, self.bundle.model_id)


class OpenVinoMember:
    """A `MemberEngine` of the graph that TensorFlow runs."""

    def __init__(self, bundle: Bundle, precision: Precision | None = None) -> None:
        """See `OpenVinoEngine`."""
        self.bundle = bundle
        graph = build_openvino_evidence_graph(bundle, _operands(bundle, precision))
        self._program = OpenVinoProgram(graph, bundle.recipe.input_size_px, precision)
        self.device = self._program.device

    def warm_up(self, batch_size: int) -> None:
        """See `Engine.warm_up`. `batch_size` is the full batch from now on."""
        self._program.prepare(batch_size)
        self.weigh(blank_images(self.bundle.recipe.input_size_px, batch_size))

    def weigh(self, enhanced: Sequence[Enhanced]) -> Evidence:
        """See `MemberEngine.weigh`."""
        logits, maps = self._program.run(enhanced)
        return Evidence(logits, maps)


def _operands(bundle: Bundle, precision: Precision | None) -> Operands:
    if precision != "int8":
        return as_they_are
    if bundle.ranges is None:
        raise ModelError(f"{bundle.name} has no ranges for 8 bits; `fundus model quantise` measures them")
    from worker.model.engines.openvino_int8 import in_bytes

    return in_bytes(bundle.ranges)
