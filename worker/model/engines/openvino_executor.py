"""Compile an OpenVINO graph for this CPU, in bfloat16 if the CPU supports it, and run batches."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino.preprocess import PrePostProcessor

from worker.core import vocabulary
from worker.core.machine import quota_cores
from worker.core.predictions import ModelInput
from worker.model.engines.batch_io import Images, all_uint8, stack_images, validate_images
from worker.model.engines.openvino_graph import IMAGES_INPUT, WHITE_INPUT
from worker.model.engines.protocol import EngineDescription

Precision = Literal["bf16", "f32", "int8"]
_PRECISIONS: dict[Precision, vocabulary.Precision] = {
    "bf16": vocabulary.Precision.BFLOAT16,
    "f32": vocabulary.Precision.FLOAT32,
    "int8": vocabulary.Precision.INT8,
}


def fastest_float_precision() -> Literal["bf16", "f32"]:
    """Return the fastest floating type of this CPU."""
    return "bf16" if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"


class OpenVinoExecutor:
    """Runs batches on all usable cores: each batch is divided among streams that run in parallel.

    A stream's threads do not wait for those of other streams at every layer, nor for a decoder that uses another core
    (9% faster on two cores than one stream with both). The graph is compiled twice: for a stream's part of a full batch
    of uint8, the usual case, whose fixed shape lets OpenVINO plan its memory (6% faster), and for any other batch.
    """

    def __init__(self, graph: openvino.Model, side: int, precision: Precision | None) -> None:
        core = openvino.Core()
        # If a memory-mapped file were truncated, the worker would be killed.
        core.set_property({"ENABLE_MMAP": False})
        # In an INT8 graph, this is the type between the convolutions.
        floats = fastest_float_precision() if precision in (None, "int8") else precision
        self.description = EngineDescription(
            engine="openvino",
            precision=_PRECISIONS[precision or floats],
            device=core.get_property("CPU", "FULL_DEVICE_NAME").strip(),
            libraries={"openvino": openvino.__version__},
        )
        self._core = core
        self._options: dict[str, str | int | bool] = {
            "INFERENCE_PRECISION_HINT": floats,
            "PERFORMANCE_HINT": "THROUGHPUT",
            # A pinned thread has to wait for another process on its core, such as a decoder.
            "ENABLE_CPU_PINNING": False,
        }
        if (cores := quota_cores()) is not None:
            self._options["INFERENCE_NUM_THREADS"] = cores
        self._graph = graph
        self._side = side
        self._any_part = self._compile(graph)
        self._full_part: list[_FullPart] = []
        self._full_size = 0

    def prepare(self, batch_size: int) -> None:
        """Compile for full batches of this size."""
        side = self._side
        self._full_size = -(-batch_size // len(self._any_part))
        fixed = self._compile(_fix_batch(self._graph, self._full_size, side))
        self._full_part = [_FullPart(request, (self._full_size, side, side, 3)) for request in fixed]

    def run(self, enhanced: Sequence[ModelInput]) -> list[NDArray[np.float32]]:
        """Return the graph's outputs for N >= 1 images. Raises ValueError as `validate_images` does."""
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
        """Return an inference request for each stream."""
        compiled = self._core.compile_model(graph, "CPU", self._options)
        streams = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        return [compiled.create_infer_request() for _ in range(streams)]


class _FullPart:
    """An inference request for uint8 images that reuses its input memory, so that no batch allocates any."""

    def __init__(self, request: openvino.InferRequest, shape: tuple[int, int, int, int]) -> None:
        self._request = request
        self._images = np.empty(shape, np.uint8)
        request.set_tensor(IMAGES_INPUT, openvino.Tensor(self._images, shared_memory=True))
        request.set_tensor(WHITE_INPUT, openvino.Tensor(np.array(255, np.float32)))

    def start(self, part: Images) -> openvino.InferRequest:
        """Start the request and return it."""
        np.stack(part, out=self._images)
        self._request.start_async(share_inputs=True)
        return self._request


def _fix_batch(graph: openvino.Model, batch_size: int, side: int) -> openvino.Model:
    """Return a copy of the graph with the input uint8 (batch_size, side, side, 3), which it converts to float."""
    fixed = graph.clone()
    fixed.reshape({IMAGES_INPUT: [batch_size, side, side, 3]})
    layout = PrePostProcessor(fixed)
    layout.input(IMAGES_INPUT).tensor().set_element_type(openvino.Type.u8)
    return layout.build()
