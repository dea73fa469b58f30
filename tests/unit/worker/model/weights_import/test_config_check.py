import json
from typing import Any

import pytest

from worker.core.errors import ModelError
from worker.model.weights_import.config_check import check_config


def layer(kind: str, **settings: Any) -> dict[str, Any]:
    return {"class_name": kind, "config": {"name": "x", **settings}}


def check(*layers: Any) -> None:
    model = {"class_name": "Sequential", "config": {"name": "m", "layers": list(layers)}}
    check_config(json.dumps(model).encode(), source="f.h5")


def test_layers_of_the_network_are_accepted() -> None:
    backbone = {
        "class_name": "Functional",
        "config": {"layers": [layer("Conv2D", activation="linear"), layer("BatchNormalization", epsilon=1.001e-5)]},
    }
    check(backbone, layer("GlobalAveragePooling2D"), layer("Dropout"), layer("Dense", activation="sigmoid"))


def test_sequential_of_keras_before_2_3_is_accepted() -> None:
    model = {"class_name": "Sequential", "config": [layer("Lambda")]}
    with pytest.raises(ModelError, match="class 'Lambda'"):
        check_config(json.dumps(model).encode(), source="f.h5")


@pytest.mark.parametrize(
    ("foreign", "sentence"),
    [
        (layer("Lambda"), "f.h5: has a layer of the class 'Lambda', which is not in this network"),
        (layer("my_package>Attention"), "class 'my_package>Attention'"),
        (layer("RandomFlip"), "class 'RandomFlip'"),
        (layer("Dense", activation="softmax"), "layer 'x' has the activation 'softmax', not 'sigmoid'"),
        (layer("Dense", activation={"class_name": "function"}), "not 'sigmoid'"),
        (layer("Dense"), "layer 'x' has the activation None, not 'sigmoid'"),
        (layer("Activation", activation="gelu"), "has the activation 'gelu', not 'relu'"),
        (layer("BatchNormalization", epsilon=0.001), "has the epsilon 0.001, not 1.001e-05"),
        ({"class_name": "Dense"}, "a layer without class_name and config"),
        ({"config": {}}, "a layer without class_name and config"),
        (7, "a layer without class_name and config"),
    ],
)
def test_foreign_layer_is_rejected_also_in_a_nested_model(foreign: Any, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        check(foreign)
    with pytest.raises(ModelError, match=sentence):
        check({"class_name": "Functional", "config": {"layers": [foreign]}})


def test_depth_of_nested_models_is_limited() -> None:
    nested: dict[str, Any] = layer("Dropout")
    for _ in range(5):
        nested = {"class_name": "Sequential", "config": {"layers": [nested]}}
    with pytest.raises(ModelError, match="its description is not that of a Keras model"):
        check(nested)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000])
def test_description_that_is_not_json_is_rejected(content: bytes) -> None:
    with pytest.raises(ModelError, match=r"f\.h5: its description is not JSON"):
        check_config(content, source="f.h5")


@pytest.mark.parametrize("content", [b"{}", b"[]", b'{"class_name": "Dense", "config": {}}'])
def test_description_of_something_else_is_rejected(content: bytes) -> None:
    with pytest.raises(ModelError, match="its description"):
        check_config(content, source="f.h5")
