"""Grade and explain batches on a CPU with OpenVINO, in bfloat16 where the processor has it."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import openvino
from numpy.typing import NDArray

from worker.items import Prediction
from worker.model.batch import stack_images, to_predictions
from worker.model.bundle import Bundle
from worker.model.openvino_graph import read_graph

Precision = Literal["bf16", "f32"]


class OpenVinoEngine:
    """An `Engine` of the graph that TensorFlow runs, compiled for this processor."""

    def __init__(self, bundle: Bundle, precision: Precision | None = None) -> None:
        self.bundle = bundle
        core = openvino.Core()
        # A mapped file that is cut short under a running worker would kill it.
        core.set_property({"ENABLE_MMAP": False})
        chosen = precision or _best_precision(core)
        self.device = f"{core.get_property('CPU', 'FULL_DEVICE_NAME')} (OpenVINO, {chosen})"
        compiled = core.compile_model(
            read_graph(core, bundle),
            "CPU",
            # One request with all cores: batches come one after the other.
            {"INFERENCE_PRECISION_HINT": chosen, "PERFORMANCE_HINT": "LATENCY"},
        )
        self._request = compiled.create_infer_request()

    def warm_up(self, batch_size: int) -> None:
        """See `Engine.warm_up`."""
        side = self.bundle.recipe.input_size_px
        self.predict([np.zeros((side, side, 3), np.uint8)] * batch_size)

    def predict(self, enhanced: Sequence[NDArray[np.uint8] | NDArray[np.float32]]) -> list[Prediction]:
        """See `Engine.predict`."""
        if not enhanced:
            return []
        images, white = stack_images(enhanced, self.bundle.recipe.input_size_px)
        outputs = self._request.infer([images.astype(np.float32), np.float32(white)])
        logits, probabilities, saliency = (outputs[index] for index in range(3))
        return to_predictions(logits, probabilities, saliency, self.bundle.model_id)


def _best_precision(core: openvino.Core) -> Precision:
    return "bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"
