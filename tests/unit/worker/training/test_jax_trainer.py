"""A fit on JAX: a resumed one is identical, and its weights give the same predictions in TensorFlow."""

from collections.abc import Iterator

import numpy as np
import pytest

from tests.unit.worker.model.engines.jax_process import Call, jax_process
from tests.unit.worker.training import jax_calls
from tests.unit.worker.training.jax_calls import PICTURES, SIDE, make_plan
from worker.model.network.build import assign_weights, build_network

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

pytest.importorskip("jax", reason="the extra `jax` is not installed")


@pytest.fixture(scope="module")
def in_jax(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Call]:
    with jax_process(tmp_path_factory.mktemp("cache")) as call:
        yield call


def test_resumed_training_is_bit_identical(in_jax: Call) -> None:
    losses, state, resumed_losses, resumed_state = in_jax(jax_calls.resume_after, 1)
    assert len(losses) == 3
    assert losses == resumed_losses
    assert state.keys() == resumed_state.keys()
    for name, array in state.items():
        assert array.tobytes() == resumed_state[name].tobytes(), name
    assert state["steps"] == 3


def test_averaged_weights_give_the_same_predictions_in_tensorflow(in_jax: Call) -> None:
    predictions, weights, loss = in_jax(jax_calls.predict_averaged)
    network = build_network(SIDE, "mobilenet")
    assign_weights(network, weights)
    expected = network(PICTURES.astype(np.float32) * (3.984375 / 255) - 2, training=False).numpy()
    assert predictions == pytest.approx(expected, abs=1e-5)
    assert 0.3 < loss < 3


def test_training_on_one_batch_lowers_its_loss(in_jax: Call) -> None:
    losses = in_jax(jax_calls.overfit, 12)
    assert np.mean(losses[-3:]) < 0.7 * losses[0]


def test_layers_before_the_first_trained_one_are_not_changed(in_jax: Call) -> None:
    changed = in_jax(jax_calls.train_from, "conv_dw_12")
    assert {"conv_dw_12", "conv_dw_12_bn", "conv_pw_13", "conv_pw_13_bn"} < changed
    assert not [name for name in changed if name.startswith(("conv1", "conv_dw_1_", "conv_pw_11"))]


def test_half_of_the_images_take_a_part_of_the_contrast_of_the_image_before(in_jax: Call) -> None:
    noise = np.random.default_rng(0).normal(size=(1, 32, 32, 3))
    images = (128 + np.linspace(5, 30, 64)[:, None, None, None] * noise).round().clip(0, 255).astype(np.uint8)
    mixed = in_jax(jax_calls.mix_many, images, 0)
    before, after = ((each.astype(float) - 128).std(axis=(1, 2, 3)) for each in (images, mixed))
    source = np.roll(before, 1)
    assert (after >= np.minimum(before, source) - 0.3).all()
    assert (after <= np.maximum(before, source) + 0.3).all()
    assert 16 <= (np.abs(after - before) > 0.1).sum() <= 48
    assert not np.array_equal(mixed, in_jax(jax_calls.mix_many, images, 1))


def test_augmentation_keeps_the_circle_and_follows_the_key(in_jax: Call) -> None:
    flat = np.full((16, 65, 65, 3), 200, np.uint8)
    first, again, other = (in_jax(jax_calls.augment_many, flat, seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert (first[:, 0, 0] == 128).all()
    assert (first[:, 32, 32] != 128).any()


def test_fit_is_resumed_on_its_own_backend_alone() -> None:
    difference = make_plan().first_difference(make_plan(backend="tensorflow"))
    assert difference == "backend is jax, it was tensorflow"
