"""Raw OpenVINO: forward pass only, in bfloat16, with a fixed shape and the THROUGHPUT hint."""

from collections.abc import Callable

import numpy as np
import openvino
import tensorflow as tf
from numpy.typing import NDArray

from tests.benchmarks.engine_process import EngineOutput
from tests.benchmarks.peers.inputs import as_network_input
from worker.model.bundle.bundle import Bundle
from worker.model.network.build import load_network

STREAMS = 2
"""OpenVINO's choice for two cores; one request with the LATENCY hint is 8% slower."""


def load(bundle: Bundle, pictures: NDArray[np.uint8]) -> Callable[[], EngineOutput]:
    """Load probabilities only. Input and output memory is shared with the requests, not copied."""
    network = load_network(bundle)
    inputs = np.array_split(as_network_input(bundle, pictures), STREAMS)
    forward = tf.function(
        lambda batch: network(batch, training=False),
        autograph=False,
        input_signature=[tf.TensorSpec(inputs[0].shape, tf.float32)],
    )
    compiled = openvino.Core().compile_model(
        openvino.convert_model(forward.get_concrete_function()),
        "CPU",
        {"INFERENCE_PRECISION_HINT": "bf16", "PERFORMANCE_HINT": "THROUGHPUT"},
    )
    # A tensor with shared memory does not keep its array alive.
    held = [(compiled.create_infer_request(), np.ascontiguousarray(part)) for part in inputs]
    for request, part in held:
        request.set_input_tensor(openvino.Tensor(part, shared_memory=True))

    def run() -> EngineOutput:
        for request, _ in held:
            request.start_async(share_inputs=True)
        for request, _ in held:
            request.wait()
        return np.concatenate([request.get_output_tensor().data for request, _ in held]), None

    return run
