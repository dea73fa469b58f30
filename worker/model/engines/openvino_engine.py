"""Grade and explain batches with OpenVINO on a CPU."""

from collections.abc import Sequence

from worker.core.errors import ModelError
from worker.core.predictions import ModelInput, Prediction
from worker.model.bundle.bundle import Bundle
from worker.model.class_activation_maps import ClassMaps
from worker.model.engines.batch_io import blank_images, predictions_from_class_maps
from worker.model.engines.openvino_executor import OpenVinoExecutor, Precision
from worker.model.engines.openvino_graph import build_openvino_graph
from worker.model.engines.openvino_operands import Operands, float_operands


class OpenVinoEngine:
    """An `Engine` for networks that are explained in closed form: DenseNet-121 and EfficientNet-Lite."""

    def __init__(self, bundle: Bundle, precision: Precision | None = None) -> None:
        """precision: the faster floating type by default. Raises ModelError for int8 without activation ranges."""
        self.bundle = bundle
        graph = build_openvino_graph(bundle, _operands(bundle, precision))
        self._executor = OpenVinoExecutor(graph, bundle.recipe.input_size_px, precision)
        self.description = self._executor.description

    def warm_up(self, batch_size: int) -> None:
        """See `Engine.warm_up`. `batch_size` is the size of a full batch from now on."""
        self._executor.prepare(batch_size)
        self.predict(blank_images(self.bundle.recipe.input_size_px, batch_size))

    def predict(self, enhanced: Sequence[ModelInput]) -> list[Prediction]:
        """See `Engine.predict`."""
        return predictions_from_class_maps(self.class_maps(enhanced), self.bundle) if enhanced else []

    def class_maps(self, enhanced: Sequence[ModelInput]) -> ClassMaps:
        """See `Engine.class_maps`."""
        return ClassMaps(*self._executor.run(enhanced))


def _operands(bundle: Bundle, precision: Precision | None) -> Operands:
    if precision != "int8":
        return float_operands
    if bundle.activation_ranges is None:
        raise ModelError(f"{bundle.name} has no activation ranges for INT8; `fundus model quantise` measures them")
    from worker.model.engines.openvino_int8 import int8_operands

    return int8_operands(bundle.activation_ranges)
