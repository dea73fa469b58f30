"""Weights saved by the real Keras 2 and 3 are imported unchanged; files of other networks are rejected."""

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray

from tests.unit.worker.model.networks import draw_weight, make_manifest, random_weights
from worker.core.errors import ModelError, UsageError
from worker.model.architecture import weight_shapes
from worker.model.bundle.bundle import load_bundle
from worker.model.engines.tensorflow_engine import TensorFlowEngine
from worker.model.network.build import assign_weights, build_network
from worker.model.weights_import.importer import SAVED_MODEL_WEIGHTS, import_weights, read_in_subprocess
from worker.model.weights_import.layer_names import densenet_layers, match_keras2, match_keras3
from worker.model.weights_import.weights_file import read_keras_weights

DATA = Path(__file__).parents[4] / "data" / "model"
SIDE = 64
RECIPE = make_manifest(side=SIDE).recipe


@pytest.fixture(scope="module")
def old_network() -> Any:
    """The notebook's model in Keras 2; no variable has the value of a new network."""
    # Keras numbers its layers, also those that other test modules built before.
    tf_keras.backend.clear_session()
    network = tf_keras.Sequential(
        [
            tf_keras.applications.DenseNet121(include_top=False, weights=None, input_shape=(SIDE, SIDE, 3)),
            tf_keras.layers.GlobalAveragePooling2D(),
            tf_keras.layers.Dropout(0.5),
            tf_keras.layers.Dense(5, activation="sigmoid"),
        ]
    )
    rng = np.random.default_rng(3)
    for variable in network.variables:
        variable.assign(draw_weight(variable.name.removesuffix(":0"), tuple(variable.shape), rng))
    network.compile(loss="binary_crossentropy", optimizer="adam")
    return network


@pytest.fixture(scope="module")
def old_weights_file(old_network: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("keras2") / "weights.h5"
    old_network.save_weights(file)
    return file


@pytest.fixture
def damaged(old_weights_file: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    file = tmp_path / "damaged.h5"
    file.write_bytes(old_weights_file.read_bytes())
    return file


def read(file: Path) -> dict[str, NDArray[np.float32]]:
    return read_keras_weights(file.read_bytes(), source=file.name)


def explain_old_network(network: Any, images: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probabilities and Grad-CAM of the Keras 2 model by gradient tape, one image at a time."""
    backbone, pooling, _, head = network.layers
    probabilities, maps = [], []
    for image in images:
        with tf.GradientTape() as tape:
            features = backbone(image[None], training=False)
            tape.watch(features)
            logits = tf.matmul(pooling(features), head.kernel) + head.bias
            outputs = network(image[None], training=False).numpy()[0]
            logit = logits[0, max(np.flatnonzero(outputs > 0.5), default=0)]
        alpha = tape.gradient(logit, features).numpy()[0].mean(axis=(0, 1))
        saliency = np.maximum((features.numpy()[0] * alpha).sum(axis=-1), 0)
        probabilities.append(outputs)
        maps.append(saliency / saliency.max() if saliency.any() else saliency)
    return np.stack(probabilities), np.stack(maps)


@pytest.fixture(scope="module")
def explained(old_network: Any) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Pictures in [0, 1], and what the Keras 2 model finds in them."""
    images = np.random.default_rng(0).uniform(0, 1, (6, SIDE, SIDE, 3)).astype(np.float32)
    # The recipe's range is [-1, 1].
    return images, *explain_old_network(old_network, images * 2 - 1)


@pytest.mark.parametrize("whole_model", [False, True])
def test_notebooks_h5_predicts_and_explains_as_in_keras_2(
    old_network: Any,
    old_weights_file: Path,
    explained: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
    tmp_path: Path,
    *,
    whole_model: bool,
) -> None:
    file = old_weights_file
    if whole_model:
        file = tmp_path / "model.h5"
        old_network.save(file)
    import_weights(file, tmp_path / "bundle", recipe=RECIPE, name="notebook")
    images, expected, maps = explained
    predictions = TensorFlowEngine(load_bundle(tmp_path / "bundle")).predict(list(images))
    assert maps.any(axis=(1, 2)).sum() >= 3
    for prediction, outputs, saliency in zip(predictions, expected, maps, strict=True):
        assert np.abs(prediction.probabilities - outputs).max() < 1e-5
        assert np.abs(prediction.saliency - saliency).max() < 1e-4


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras", ".h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_keras_3_files_give_all_weights(tmp_path: Path, suffix: str) -> None:
    weights = random_weights(5)
    network = build_network(SIDE)
    assign_weights(network, weights)
    network.compile(loss="binary_crossentropy", optimizer="adam")
    file = tmp_path / f"model{suffix}"
    network.save_weights(file) if suffix == ".weights.h5" else network.save(file)
    imported = read(file)
    assert list(imported) == list(weights)
    assert all(np.array_equal(imported[name], weights[name]) for name in weights)


def test_manifest_has_the_sha256_of_the_imported_file(old_weights_file: Path, tmp_path: Path) -> None:
    manifest = import_weights(
        old_weights_file, tmp_path / "b", recipe=RECIPE, name="mine", notes="Mine.", float16_kernels=True
    )
    assert manifest.notes.startswith("Mine. Imported from weights with SHA-256 ")
    assert load_bundle(tmp_path / "b").manifest == manifest


def test_invalid_bundle_name_is_rejected(old_weights_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="model bundle: name: String should match pattern"):
        import_weights(old_weights_file, tmp_path / "b", recipe=RECIPE, name="My Model")
    assert list(tmp_path.iterdir()) == []


def test_missing_layer_is_named(damaged: Path) -> None:
    with h5py.File(damaged, "a") as file:
        del file["densenet121/conv5_block16_2_conv"]
    with pytest.raises(ModelError, match="1 of 606 weights are missing, the first is conv5_block16_2_conv/kernel"):
        read(damaged)


def test_missing_head_is_named(damaged: Path) -> None:
    with h5py.File(damaged, "a") as file:
        del file["dense/dense"]
    with pytest.raises(ModelError, match="2 of 606 weights are missing, the first is head/kernel"):
        read(damaged)


def test_head_of_another_size_is_rejected(damaged: Path) -> None:
    with h5py.File(damaged, "a") as file:
        del file["dense/dense/kernel:0"]
        file["dense/dense/kernel:0"] = np.zeros((1024, 1), "f4")
    with pytest.raises(ModelError, match=r"dense/kernel:0 has the shape \(1024, 1\), \(1024, 5\) is needed"):
        read(damaged)


def test_second_head_is_rejected(damaged: Path) -> None:
    with h5py.File(damaged, "a") as file:
        file["dense_1/dense_1/kernel:0"] = np.zeros((5, 5), "f4")
    with pytest.raises(ModelError, match="has layers that are not in this network: dense/dense, dense_1/dense_1"):
        read(damaged)


def test_unknown_weight_of_a_layer_is_rejected(damaged: Path) -> None:
    with h5py.File(damaged, "a") as file:
        file["densenet121/pool2_conv/bias:0"] = np.zeros(128, "f4")
    with pytest.raises(ModelError, match=r"pool2_conv/bias:0: the network has no weight pool2_conv/bias"):
        read(damaged)


def test_infinite_weight_is_rejected(damaged: Path) -> None:
    with h5py.File(damaged, "a") as file:
        file["dense/dense/bias:0"][0] = np.inf
    with pytest.raises(ModelError, match="head/bias has a value that is not finite"):
        read(damaged)


def test_truncated_file_is_rejected_and_no_file_is_left(damaged: Path, tmp_path: Path) -> None:
    damaged.write_bytes(damaged.read_bytes()[:1_000_000])
    with pytest.raises(ModelError, match=r"damaged\.h5: damaged HDF5"):
        import_weights(damaged, tmp_path / "b", recipe=RECIPE, name="b")
    assert [path.name for path in tmp_path.iterdir()] == ["damaged.h5"]


@pytest.mark.parametrize("content", [b"", b"\x80\x04\x95", b"<html>"])
def test_files_of_other_formats_are_rejected(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(ModelError, match=r"neither HDF5 nor a \.keras archive"):
        read(tmp_path / "f")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.h5: No such file"):
        import_weights(tmp_path / "none.h5", tmp_path / "b", recipe=RECIPE, name="b")


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_lambda_of_keras_2_is_rejected_and_never_run(tmp_path: Path) -> None:
    trace = str(tmp_path / "run")
    network = tf_keras.Sequential(
        [tf_keras.layers.Lambda(lambda x: (Path(trace).touch(), x)[1], input_shape=(2,)), tf_keras.layers.Dense(5)]
    )
    network.save(tmp_path / "lambda.h5")
    Path(trace).unlink(missing_ok=True)
    with pytest.raises(ModelError, match="has a layer of the class 'Lambda', which is not in this network"):
        read(tmp_path / "lambda.h5")
    assert not Path(trace).exists()


def test_lambda_of_keras_3_is_rejected(tmp_path: Path) -> None:
    network = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x * 2), keras.layers.Dense(5)])
    network.save(tmp_path / "lambda.keras")
    with pytest.raises(ModelError, match="has a layer of the class 'Lambda', which is not in this network"):
        read(tmp_path / "lambda.keras")


def test_file_that_crashes_the_library_is_reported_as_damaged() -> None:
    with pytest.raises(ModelError, match=r"^kills\.h5: damaged"):
        read_in_subprocess((DATA / "kills_hdf5.h5").read_bytes(), source="kills.h5", recipe=RECIPE)


def test_reading_a_file_has_a_timeout(old_weights_file: Path) -> None:
    with pytest.raises(ModelError, match=r"^slow\.h5: not read within 0\.01 s"):
        read_in_subprocess(old_weights_file.read_bytes(), source="slow.h5", recipe=RECIPE, timeout_s=0.01)


def test_names_in_a_file_cannot_control_the_terminal(tmp_path: Path) -> None:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w") as hostile:
        hostile["red\x1b[31m/kernel:0"] = h5py.SoftLink("/x")
    with pytest.raises(ModelError, match=r"red\?\[31m/kernel:0 is a soft or external link"):
        read_in_subprocess(file.read_bytes(), source="f.h5", recipe=RECIPE)


def archive(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


EMPTY = json.dumps({"class_name": "Sequential", "config": {"layers": []}}).encode()


def encrypted(data: bytes) -> bytes:
    """The same archive with its first member marked as encrypted."""
    central = data.index(b"PK\x01\x02")
    return data[: central + 8] + b"\x01" + data[central + 9 :]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (archive({"config.json": EMPTY}), r"has 0 members model\.weights\.h5, one is needed"),
        (archive({"model.weights.h5": b""}), r"has 0 members config\.json, one is needed"),
        (archive({"config.json": EMPTY, "model.weights.h5": b"pickle"}), "neither HDF5 nor a"),
        (archive({"config.json": b" " * 8_388_609}), "its description has 8388609 bytes, 8388608 are allowed"),
        (archive({"config.json": EMPTY})[:-30], "damaged archive: "),
        (encrypted(archive({"config.json": EMPTY})), "damaged archive: .*encrypted"),
    ],
)
def test_archive_without_plain_weights_is_rejected(data: bytes, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        read_keras_weights(data, source="f.keras")


def rename(change: Callable[[str], str]) -> dict[str, str]:
    """The matched paths of a Keras 2 file, with each path changed by a function."""
    return match_keras2([change(name) for name in weight_shapes()], densenet_layers(), source="f.h5")


@pytest.mark.parametrize(
    "change",
    [
        lambda name: f"densenet121/{name}:0" if "head" not in name else f"dense_7/{name.replace('head', 'dense_7')}:0",
        lambda name: f"g/{name.replace('conv1_', 'conv1/', 1) if name.startswith('conv1_') else name}:0",
        lambda name: f"g/{name.replace('conv1_', 'conv1_2/', 1) if name.startswith('conv1_') else name}:0",
        lambda name: f"model_weights/g/{name.replace('/', '_3/')}:0",
    ],
)
def test_layer_names_of_older_keras_versions_and_sessions_are_matched(change: Callable[[str], str]) -> None:
    assert rename(change) == {name: change(name) for name in weight_shapes()}


def test_optimizer_is_ignored() -> None:
    paths = ["model_weights/g/bn/gamma:0", "optimizer_weights/Adam/bn/gamma:0", "training/other"]
    assert match_keras2(paths, densenet_layers(), source="f.h5") == {"bn/gamma": "model_weights/g/bn/gamma:0"}
    paths = ["layers/dense/vars/0", "optimizer/vars/0", "layers/dropout/seed_generator/vars/0"]
    assert match_keras3(paths, densenet_layers(), source="f.h5") == {"head/kernel": "layers/dense/vars/0"}


def test_two_datasets_of_one_name_are_rejected() -> None:
    with pytest.raises(ModelError, match=r"f\.h5: a/bn/gamma:0 and b/bn/gamma:0 are both bn/gamma"):
        match_keras2(["a/bn/gamma:0", "b/bn/gamma:0"], densenet_layers(), source="f.h5")


@pytest.mark.parametrize(
    "path",
    [
        "layers/functional/layers/conv2d_120/vars/0",
        "layers/functional/layers/conv2d/vars/1",
        "layers/dense_1/vars/0",
        "layers/depthwise_conv2d/vars/0",
        "layers/functional/layers/conv2d/other",
    ],
)
def test_layer_number_beyond_the_network_is_rejected(path: str) -> None:
    with pytest.raises(ModelError, match="belongs to no layer of this network"):
        match_keras3([path], densenet_layers(), source="f.h5")


@pytest.fixture(scope="module")
def saved_model(old_network: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel, the format before `.keras` files, with the optimizer's state."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    old_network.save(folder, save_format="tf")
    return folder


@pytest.mark.slow
def test_saved_model_gives_all_weights(saved_model: Path, old_weights_file: Path, tmp_path: Path) -> None:
    manifest = import_weights(saved_model, tmp_path / "b", recipe=RECIPE, name="b")
    expected = read(old_weights_file)
    found = load_bundle(tmp_path / "b").weights
    assert list(found) == list(expected)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert "Imported from weights with SHA-256" in manifest.notes


@pytest.mark.slow
def test_damaged_saved_model_is_rejected(saved_model: Path, tmp_path: Path) -> None:
    shutil.copytree(saved_model, tmp_path / "cut")
    weights = tmp_path / "cut" / SAVED_MODEL_WEIGHTS
    weights.write_bytes(weights.read_bytes()[:1_000_000])
    with pytest.raises(ModelError, match="cut: damaged"):
        import_weights(tmp_path / "cut", tmp_path / "b", recipe=RECIPE, name="b")
    (tmp_path / "cut" / "variables" / "variables.index").unlink()
    with pytest.raises(ModelError, match="cut: damaged"):
        import_weights(tmp_path / "cut", tmp_path / "b", recipe=RECIPE, name="b")
    weights.unlink()
    with pytest.raises(ModelError, match="No such file"):
        import_weights(tmp_path / "cut", tmp_path / "b", recipe=RECIPE, name="b")


@pytest.mark.slow
def test_saved_model_of_another_network_is_rejected(tmp_path: Path) -> None:
    network = tf_keras.Sequential([tf_keras.layers.Dense(5, input_shape=(3,), activation="sigmoid")])
    network.save(tmp_path / "other", save_format="tf")
    with pytest.raises(ModelError, match=r"other: dense(_\d+)?/kernel has the shape \(3, 5\), \(1024, 5\) is needed"):
        import_weights(tmp_path / "other", tmp_path / "b", recipe=RECIPE, name="b")
