"""Grade and explain batches on a CPU with OpenVINO."""

from collections.abc import Sequence

from worker.items import Enhanced, Prediction
from worker.model.batch import blank_images, to_predictions
from worker.model.bundle import Bundle
from worker.model.evidence import Evidence
from worker.model.openvino_graph import build_openvino_evidence_graph, build_openvino_graph
from worker.model.openvino_program import OpenVinoProgram, Precision


class OpenVinoEngine:
    """An `Engine` of the graph that TensorFlow runs."""

    def __init__(self, bundle: Bundle, precision: Precision | None = None) -> None:
        self.bundle = bundle
        self._program = OpenVinoProgram(build_openvino_graph(bundle), bundle.recipe.input_size_px, precision)
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
        self.bundle = bundle
        self._program = OpenVinoProgram(build_openvino_evidence_graph(bundle), bundle.recipe.input_size_px, precision)
        self.device = self._program.device

    def warm_up(self, batch_size: int) -> None:
        """See `Engine.warm_up`. `batch_size` is the full batch from now on."""
        self._program.prepare(batch_size)
        self.weigh(blank_images(self.bundle.recipe.input_size_px, batch_size))

    def weigh(self, enhanced: Sequence[Enhanced]) -> Evidence:
        """See `MemberEngine.weigh`."""
        logits, maps = self._program.run(enhanced)
        return Evidence(logits, maps)
