"""The JAX engine, in a process without TensorFlow, agrees with TensorFlow."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.unit.worker.model.engines import jax_calls
from tests.unit.worker.model.engines.jax_process import Call, jax_process
from tests.unit.worker.model.network.test_backbones import SIDE, make
from worker.core.errors import AcceleratorMemoryError, ModelError, SettingsError
from worker.core.predictions import Prediction
from worker.model.bundle.bundle import load_bundle
from worker.model.bundle.writer import write_bundle
from worker.model.engines.acceptance import correlate
from worker.model.engines.tensorflow_engine import TensorFlowEngine
from worker.model.network.backend import use_backend

pytest.importorskip("jax", reason="the extra `jax` is not installed")

INNER = "block_15_expand_relu"
"""A layer that other paths lead past."""
PICTURES = list(np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    made = make("mobilenetv2")
    for layer in ("last", INNER):
        manifest = made.manifest.model_copy(update={"target_layer": layer})
        write_bundle(folder / layer, manifest, made.weights)
    return {layer: folder / layer for layer in ("last", INNER)}


@pytest.fixture(scope="module")
def in_jax(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Call]:
    with jax_process(tmp_path_factory.mktemp("cache")) as call:
        yield call


def assert_close(got: list[Prediction], expected: list[Prediction]) -> None:
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)
        np.testing.assert_allclose(one.saliency, other.saliency, atol=1e-4)
        assert one.evidence is not None
        assert other.evidence is not None
        assert one.evidence.logits == pytest.approx(other.evidence.logits, rel=1e-3)


def as_fractions(images: list[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
    return [image.astype(np.float32) / 255 for image in images]


def test_predictions_are_those_of_tensorflow(in_jax: Call, bundles: dict[str, Path]) -> None:
    found = in_jax(jax_calls.predict, bundles["last"], PICTURES)
    assert_close(found, TensorFlowEngine(load_bundle(bundles["last"])).predict(PICTURES))
    assert found[0].probabilities.dtype == found[0].saliency.dtype == np.float32
    assert found[0].saliency.max() == 1


def test_gradients_at_an_inner_layer_are_those_of_tensorflow(in_jax: Call, bundles: dict[str, Path]) -> None:
    found = in_jax(jax_calls.predict, bundles[INNER], PICTURES)
    expected = TensorFlowEngine(load_bundle(bundles[INNER])).predict(PICTURES)
    # Rounding puts a unit of 29,000 on the other side of a kink of ReLU6, where its gradient is 0 instead of 1.
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)
        assert correlate(one.saliency, other.saliency) > 0.999
        assert one.evidence is not None
        assert other.evidence is not None
        assert one.evidence.logits == pytest.approx(other.evidence.logits, rel=0.03)


def test_bytes_fractions_and_padded_batches_give_equal_predictions(in_jax: Call, bundles: dict[str, Path]) -> None:
    bundle = bundles["last"]
    expected = in_jax(jax_calls.predict, bundle, PICTURES)
    assert_close(in_jax(jax_calls.predict, bundle, as_fractions(PICTURES)), expected)
    assert_close(in_jax(jax_calls.predict, bundle, [*PICTURES, PICTURES[0]]), [*expected, expected[0]])
    assert in_jax(jax_calls.predict, bundle, []) == []


def test_bfloat16_rounds_the_maps_a_little(in_jax: Call, bundles: dict[str, Path]) -> None:
    exact = in_jax(jax_calls.predict, bundles["last"], PICTURES)
    rounded = in_jax(jax_calls.predict, bundles["last"], PICTURES, "bfloat16")
    for one, other in zip(exact, rounded, strict=True):
        assert 0 < np.abs(one.saliency - other.saliency).max() < 0.25
        assert correlate(one.saliency, other.saliency) > 0.9


def test_warm_up_compiles_each_size_and_later_batches_none(in_jax: Call, bundles: dict[str, Path]) -> None:
    warm, after = in_jax(jax_calls.compile_sizes, bundles["last"], [*PICTURES, PICTURES[0]])
    assert warm == after == [(1, "uint8"), (2, "uint8"), (3, "uint8")]
    # Another process finds them there.
    assert len(list((bundles["last"].parent / "compiled").glob("jit_run-*"))) >= len(warm)


def test_engine_needs_no_tensorflow(in_jax: Call, bundles: dict[str, Path]) -> None:
    description, modules = in_jax(jax_calls.list_tensorflow_modules, bundles["last"])
    assert modules == []
    assert description.engine == "jax"
    assert description.device
    assert description.libraries.keys() == {"jax", "keras"}


def test_backend_that_is_not_installed_is_named(in_jax: Call, bundles: dict[str, Path]) -> None:
    with pytest.raises(
        SettingsError, match=r"tensorflow is not installed; fix: pip install 'fundus-grading\[worker\]'"
    ):
        in_jax(jax_calls.use_tensorflow, bundles["last"])


def test_second_backend_in_a_process_is_refused() -> None:
    with pytest.raises(SettingsError, match="runs Keras on tensorflow, jax needs a process of its own"):
        use_backend("jax")


def test_layer_before_the_last_has_no_class_maps(in_jax: Call, bundles: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match="other has no class maps: it is explained at 'block_15_expand_relu'"):
        in_jax(jax_calls.map_classes, bundles[INNER], PICTURES)


def test_batch_that_exceeds_the_memory_is_named(in_jax: Call, bundles: dict[str, Path]) -> None:
    with pytest.raises(AcceleratorMemoryError, match="a batch of 256 images does not fit"):
        in_jax(jax_calls.exhaust_memory, bundles["last"], PICTURES * 128)
