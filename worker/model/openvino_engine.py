"""Grade and explain batches on a CPU with OpenVINO, in bfloat16 where the processor has it."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino.preprocess import PrePostProcessor

from worker.items import Prediction
from worker.model.batch import stack_images, to_predictions
from worker.model.bundle import Bundle
from worker.model.openvino_graph import IMAGES_INPUT, build_openvino_graph

Precision = Literal["bf16", "f32"]


class OpenVinoEngine:
    """An `Engine` of the graph that TensorFlow runs, compiled for this processor.

    It is compiled twice: for a full batch of bytes, the usual one, whose fixed shape lets OpenVINO plan its memory (6%
    quicker), and for any other.
    """

    def __init__(self, bundle: Bundle, precision: Precision | None = None) -> None:
        self.bundle = bundle
        core = openvino.Core()
        # A mapped file that is cut short under a running worker would kill it.
        core.set_property({"ENABLE_MMAP": False})
        chosen = precision or _best_precision(core)
        self.device = f"{core.get_property('CPU', 'FULL_DEVICE_NAME')} (OpenVINO, {chosen})"
        self._core = core
        self._options = {
            "INFERENCE_PRECISION_HINT": chosen,
            # One request with all cores: batches come one after the other.
            "PERFORMANCE_HINT": "LATENCY",
            # A pinned thread waits for whoever else has its core, such as a decoder, and all others wait for it.
            "ENABLE_CPU_PINNING": False,
        }
        self._graph = build_openvino_graph(bundle)
        self._any_batch = self._compile(self._graph)
        self._full_batch = self._any_batch
        self._full_size = 0

    def warm_up(self, batch_size: int) -> None:
        """See `Engine.warm_up`. `batch_size` is the full batch from now on."""
        side = self.bundle.recipe.input_size_px
        self._full_batch = self._compile(_fix_batch(self._graph, batch_size, side))
        self._full_size = batch_size
        self.predict([np.zeros((side, side, 3), np.uint8)] * batch_size)

    def predict(self, enhanced: Sequence[NDArray[np.uint8] | NDArray[np.float32]]) -> list[Prediction]:
        """See `Engine.predict`."""
        if not enhanced:
            return []
        images, white = stack_images(enhanced, self.bundle.recipe.input_size_px)
        if images.dtype == np.uint8 and len(images) == self._full_size:
            request = self._full_batch
        else:
            request, images = self._any_batch, images.astype(np.float32, copy=False)
        outputs = request.infer([images, np.float32(white)], share_inputs=True)
        logits, probabilities, saliency = (outputs[index] for index in range(3))
        return to_predictions(logits, probabilities, saliency, self.bundle.model_id)

    def _compile(self, graph: openvino.Model) -> openvino.InferRequest:
        return self._core.compile_model(graph, "CPU", self._options).create_infer_request()


def _fix_batch(graph: openvino.Model, batch_size: int, side: int) -> openvino.Model:
    """A copy of the graph for uint8 (batch_size, side, side, 3) alone; the bytes become floats inside it."""
    fixed = graph.clone()
    fixed.reshape({IMAGES_INPUT: [batch_size, side, side, 3]})
    layout = PrePostProcessor(fixed)
    layout.input(IMAGES_INPUT).tensor().set_element_type(openvino.Type.u8)
    return layout.build()


def _best_precision(core: openvino.Core) -> Precision:
    return "bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"
