import keras
import pytest

from worker.core.errors import SettingsError
from worker.model.architecture import DENSENET121, LAST_FEATURE_LAYER, feature_layers, weight_shapes
from worker.model.network.build import build_network
from worker.model.ordinal import OUTPUTS


def test_weight_names_and_shapes_match_the_keras_network() -> None:
    keras.utils.clear_session()
    network = build_network(64)
    built = {
        f"{layer.name}/{variable.name}": tuple(variable.shape)
        for layer in [*network.get_layer(DENSENET121).layers, network.get_layer("head")]
        for variable in layer.weights
    }
    assert dict(weight_shapes()) == built
    assert list(weight_shapes()) == list(built)


def test_feature_layers_match_those_of_the_keras_backbone() -> None:
    layers = build_network(64).get_layer(DENSENET121).layers
    computing = {
        layer.name for layer in layers if not isinstance(layer, keras.layers.InputLayer | keras.layers.ZeroPadding2D)
    }
    assert feature_layers() == computing
    assert layers[-1].name == LAST_FEATURE_LAYER


def test_network_has_the_pooling_dropout_and_head_of_the_notebook() -> None:
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
    # The published network without its top, and 1024 x 5 + 5 in the head.
    assert network.count_params() == 7_037_504 + 5_125


def test_channels_first_is_rejected() -> None:
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(SettingsError, match="'channels_last' is needed"):
            build_network(64)
    finally:
        keras.config.set_image_data_format("channels_last")
