"""A graph compiled for this processor by OpenVINO, in bfloat16 where the processor has it."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino.preprocess import PrePostProcessor

from worker.core.predictions import ModelInput
from worker.model.engines.batch_arrays import Images, all_uint8, stack_images, validate_images
from worker.model.engines.openvino_graph import IMAGES_INPUT, WHITE_INPUT

Precision = Literal["bf16", "f32", "int8"]


def best_precision() -> Literal["bf16", "f32"]:
    """The quicker of the floats that this processor calculates in."""
    return "bf16" if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"


class OpenVinoExecutor:
    """A batch is divided among streams that share the cores.

    None of their threads waits for another at every layer, nor for a decoder that has the other's core (9% quicker on
    two cores than one stream with both). The graph is compiled twice: for a stream's part of a full batch of bytes, the
    usual one, whose fixed shape lets OpenVINO plan its memory (6% quicker), and for any other.
    """

    def __init__(self, graph: openvino.Model, side: int, precision: Precision | None) -> None:
        core = openvino.Core()
        # A mapped file that is cut short under a running worker would kill it.
        core.set_property({"ENABLE_MMAP": False})
        # Of a graph in 8 bits, this is what lies between the convolutions.
        floats = best_precision() if precision in (None, "int8") else precision
        self.device = f"{core.get_property('CPU', 'FULL_DEVICE_NAME')} (OpenVINO, {precision or floats})"
        self._core = core
        self._options = {
            "INFERENCE_PRECISION_HINT": floats,
            "PERFORMANCE_HINT": "THROUGHPUT",
            # A pinned thread waits for whoever else has its core, such as a decoder.
            "ENABLE_CPU_PINNING": False,
        }
        self._graph = graph
        self._side = side
        self._any_part = self._compile(graph)
        self._full_part: list[_FullPart] = []
        self._full_size = 0

    def prepare(self, batch_size: int) -> None:
        """Compile for this full batch."""
        side = self._side
        self._full_size = -(-batch_size // len(self._any_part))
        fixed = self._compile(_fix_batch(self._graph, self._full_size, side))
        self._full_part = [_FullPart(request, (self._full_size, side, side, 3)) for request in fixed]

    def run(self, enhanced: Sequence[ModelInput]) -> list[NDArray[np.float32]]:
        """The graph's outputs for N >= 1 images. Raises ValueError as `validate_images` does."""
        images = validate_images(enhanced, self._side)
        share = -(-len(images) // len(self._any_part))
        starts = range(0, len(images), share)
        requests = [self._start(stream, images[start : start + share]) for stream, start in enumerate(starts)]
        for request in requests:
            request.wait()
        outputs = range(len(self._graph.outputs))
        return [np.concatenate([request.get_output_tensor(index).data for request in requests]) for index in outputs]

    def _start(self, stream: int, part: Images) -> openvino.InferRequest:
        if len(part) == self._full_size and all_uint8(part):
            return self._full_part[stream].start(part)
        images, white = stack_images(part)
        request = self._any_part[stream]
        request.start_async([images.astype(np.float32, copy=False), np.float32(white)])
        return request

    def _compile(self, graph: openvino.Model) -> list[openvino.InferRequest]:
        """A request for each stream."""
        compiled = self._core.compile_model(graph, "CPU", self._options)
        streams = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        return [compiled.create_infer_request() for _ in range(streams)]


class _FullPart:
    """A request that reads the bytes where they were stacked, with nothing allocated or wrapped for a batch."""

    def __init__(self, request: openvino.InferRequest, shape: tuple[int, int, int, int]) -> None:
        self._request = request
        self._images = np.empty(shape, np.uint8)
        request.set_tensor(IMAGES_INPUT, openvino.Tensor(self._images, shared_memory=True))
        request.set_tensor(WHITE_INPUT, openvino.Tensor(np.array(255, np.float32)))

    def start(self, part: Images) -> openvino.InferRequest:
        """The request, running."""
        np.stack(part, out=self._images)
        self._request.start_async(share_inputs=True)
        return self._request


def _fix_batch(graph: openvino.Model, batch_size: int, side: int) -> openvino.Model:
    """A copy of the graph for uint8 (batch_size, side, side, 3) alone; the bytes become floats inside it."""
    fixed = graph.clone()
    fixed.reshape({IMAGES_INPUT: [batch_size, side, side, 3]})
    layout = PrePostProcessor(fixed)
    layout.input(IMAGES_INPUT).tensor().set_element_type(openvino.Type.u8)
    return layout.build()
