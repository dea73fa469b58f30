"""Raw OpenVINO: the forward pass alone in bfloat16, fixed shape, LATENCY hint, nothing of ours around it."""

from collections.abc import Callable

import numpy as np
import openvino
import tensorflow as tf
from numpy.typing import NDArray

from tests.benchmarks.contender import Answer
from tests.benchmarks.peers.inputs import as_network_input
from worker.model.bundle import Bundle
from worker.model.densenet import load_network


def load(bundle: Bundle, pictures: NDArray[np.uint8]) -> Callable[[], Answer]:
    """Probabilities alone. Input and output are shared with the request, so nothing is copied."""
    network = load_network(bundle)
    forward = tf.function(
        lambda batch: network(batch, training=False),
        autograph=False,
        input_signature=[tf.TensorSpec(pictures.shape, tf.float32)],
    )
    compiled = openvino.Core().compile_model(
        openvino.convert_model(forward.get_concrete_function()),
        "CPU",
        {"INFERENCE_PRECISION_HINT": "bf16", "PERFORMANCE_HINT": "LATENCY"},
    )
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(as_network_input(bundle, pictures), shared_memory=True))

    def run() -> Answer:
        request.infer(share_inputs=True, share_outputs=True)
        return request.get_output_tensor().data, None

    return run
