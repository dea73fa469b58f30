"""ONNX Runtime in float32: the project's graph exported with tf2onnx, and its explanation of class maps."""

import os
from collections.abc import Callable

import numpy as np
import onnxruntime
import tensorflow as tf
import tf2onnx
from numpy.typing import NDArray

from tests.benchmarks.engine_process import EngineOutput
from tests.benchmarks.peers.inputs import as_network_input
from worker.model.bundle.bundle import Bundle
from worker.model.class_activation_maps import ClassMaps, explain
from worker.model.network.build import load_network
from worker.model.network.graph import build_class_map_function

OPSET = 18


def load(bundle: Bundle, pictures: NDArray[np.uint8]) -> Callable[[], EngineOutput]:
    """Load probabilities and saliency, with all graph optimisations and one thread per core."""
    forward = tf.function(
        build_class_map_function(load_network(bundle)),
        autograph=False,
        input_signature=[tf.TensorSpec(pictures.shape, tf.float32, name="images")],
    )
    model, _ = tf2onnx.convert.from_function(forward, input_signature=forward.input_signature, opset=OPSET)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    inputs = {session.get_inputs()[0].name: as_network_input(bundle, pictures)}

    def run() -> EngineOutput:
        class_maps = ClassMaps(*session.run(None, inputs))
        probabilities, saliency, _ = explain(class_maps, bundle.thresholds, bundle.explained_outputs)
        return probabilities, saliency

    return run
