import keras
import pytest

from worker.core.errors import SettingsError
from worker.model.architecture import DENSENET121, LAST_FEATURE_LAYER, feature_layers, weight_shapes
from worker.model.network.build import build_network
from worker.model.ordinal import OUTPUTS


def test_names_and_shapes_are_those_of_the_network_that_keras_builds() -> None:
    keras.utils.clear_session()
    network = build_network(64)
    built = {
        f"{layer.name}/{variable.name}": tuple(variable.shape)
        for layer in [*network.get_layer(DENSENET121).layers, network.get_layer("head")]
        for variable in layer.weights
    }
    assert dict(weight_shapes()) == built
    assert list(weight_shapes()) == list(built)


def test_feature_layers_are_the_layers_of_the_backbone_that_compute_a_map() -> None:
    layers = build_network(64).get_layer(DENSENET121).layers
    computing = {
        layer.name for layer in layers if not isinstance(layer, keras.layers.InputLayer | keras.layers.ZeroPadding2D)
    }
    assert feature_layers() == computing
    assert layers[-1].name == LAST_FEATURE_LAYER


def test_network_is_pooled_dropped_and_squashed_as_the_notebook_had_it() -> None:
    network = build_network(224)
    assert [type(layer).__name__ for layer in network.layers] == [
        "Functional",
        "GlobalAveragePooling2D",
        "Dropout",
        "Dense",
    ]
    assert network.get_layer(DENSENET121).output.shape == (None, 7, 7, 1024)
    assert network.layers[2].rate == 0.5
    assert network.layers[3].activation is keras.activations.sigmoid
    assert network.output_shape == (None, OUTPUTS)
    # Of the published network without its top, and of 1024 x 5 + 5 in the head.
    assert network.count_params() == 7_037_504 + 5_125


def test_other_channel_order_is_refused() -> None:
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(SettingsError, match="'channels_last' is needed"):
            build_network(64)
    finally:
        keras.config.set_image_data_format("channels_last")
