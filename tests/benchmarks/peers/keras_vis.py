"""tf-keras-vis: `predict`, then its `Gradcam` for the whole batch at the last feature map.

The library needs Keras 2, so the network is built with tf-keras and given the same weights.
"""

from collections.abc import Callable

import numpy as np
import tf_keras
from numpy.typing import NDArray
from tf_keras_vis.gradcam import Gradcam
from tf_keras_vis.utils.model_modifiers import ReplaceToLinear
from tf_keras_vis.utils.scores import CategoricalScore

from tests.benchmarks.engine_process import EngineOutput
from tests.benchmarks.peers.inputs import as_network_input
from worker.model.architecture import HEAD, LAST_FEATURE_LAYER
from worker.model.bundle.bundle import Bundle
from worker.model.ordinal import OUTPUTS


def load(bundle: Bundle, pictures: NDArray[np.uint8]) -> Callable[[], EngineOutput]:
    """Load probabilities and saliency at the last feature map."""
    network = _build(bundle)
    images = as_network_input(bundle, pictures)
    gradcam = Gradcam(network, model_modifier=ReplaceToLinear(), clone=True)

    def run() -> EngineOutput:
        probabilities = network.predict(images, batch_size=len(images), verbose=0)
        grades = np.maximum((probabilities > 0.5) @ np.ones(OUTPUTS, int) - 1, 0)
        saliency = gradcam(
            CategoricalScore(grades.tolist()),
            images,
            penultimate_layer=LAST_FEATURE_LAYER,
            seek_penultimate_conv_layer=False,
            expand_cam=False,
        )
        return probabilities, np.asarray(saliency)

    return run


def _build(bundle: Bundle) -> tf_keras.Model:
    side = bundle.recipe.input_size_px
    backbone = tf_keras.applications.DenseNet121(include_top=False, weights=None, input_shape=(side, side, 3))
    pooled = tf_keras.layers.GlobalAveragePooling2D()(backbone.output)
    network = tf_keras.Model(backbone.input, tf_keras.layers.Dense(OUTPUTS, activation="sigmoid", name=HEAD)(pooled))
    for layer in network.layers:
        for variable in layer.weights:
            kind = variable.name.split("/")[-1].removesuffix(":0")
            variable.assign(bundle.weights[f"{layer.name.replace('/', '_')}/{kind}"])
    return network
