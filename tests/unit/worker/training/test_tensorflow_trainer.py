"""A training step follows the formulas."""

from dataclasses import dataclass

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from worker.model.architecture import DENSENET121, HEAD
from worker.model.network.build import assign_weights, build_network
from worker.training.plan import DEFAULT_RECIPE, Plan
from worker.training.tensorflow_trainer import TensorFlowTrainer

# Tracing the graph of a step takes 35 s of processor time; test_fit has a quick fit.
pytestmark = pytest.mark.slow

SIDE = 32
PICTURES = np.random.default_rng(0).integers(0, 255, (4, SIDE, SIDE, 3), np.uint8)
INPUTS = PICTURES.astype(np.float32) * (3.984375 / 255) - 2
TARGETS = np.array([[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]], np.float32)


def make_plan(**changes: object) -> Plan:
    fields = {
        "manifest_sha256": "0" * 64,
        "recipe": DEFAULT_RECIPE.model_copy(update={"input_size_px": SIDE}),
        "precision": "float32",
        "warm_up_share": 0.0,
        **changes,
    }
    return Plan.model_validate(fields)


@dataclass(frozen=True)
class Step:
    """A trainer after one step, with its state before the step."""

    trainer: TensorFlowTrainer
    before: dict[str, NDArray[np.generic]]
    average_before: dict[str, NDArray[np.float32]]
    loss: float


def take_step(plan: Plan) -> Step:
    trainer = TensorFlowTrainer(plan, 10, None)
    before, average_before = trainer.state(), trainer.ema_weights()
    loss = trainer.train_step(tf.constant(PICTURES), tf.constant(TARGETS))
    return Step(trainer, before, average_before, loss)


@pytest.fixture(scope="module")
def step() -> Step:
    """Return a step without dropout, whose loss can be computed by hand."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("worker.training.tensorflow_trainer.DROPOUT_RATE", 0.0)
        return take_step(make_plan())


def as_network(weights: dict[str, NDArray[np.float32]]) -> keras.Sequential:
    network = build_network(SIDE)
    assign_weights(network, weights)
    return network


def test_average_starts_as_the_network_and_follows_it(step: Step) -> None:
    kernel = "conv1_conv/kernel"
    assert step.average_before[kernel].tobytes() == step.before["network/0"].tobytes()
    after = step.trainer.state()["network/0"]
    # After the first step the decay is (1 + 1) / (10 + 1).
    expected = step.average_before[kernel] + (1 - 2 / 11) * (after - step.average_before[kernel])
    assert step.trainer.ema_weights()[kernel] == pytest.approx(expected, abs=1e-7)
    assert np.abs(after - step.average_before[kernel]).max() > 1e-4


def test_loss_is_the_cross_entropy_of_the_cumulative_targets(step: Step) -> None:
    network = as_network(step.average_before)
    features = np.asarray(network.get_layer(DENSENET121)(INPUTS, training=True))
    outputs = np.asarray(network.get_layer(HEAD)(features.mean(axis=(1, 2))), np.float64)
    assert step.loss == pytest.approx(-np.log(np.where(TARGETS, outputs, 1 - outputs)).mean(), rel=1e-4)


def test_predictions_come_from_the_averaged_network(step: Step) -> None:
    expected = np.asarray(as_network(step.trainer.ema_weights())(INPUTS, training=False))
    assert step.trainer.predict(PICTURES) == pytest.approx(expected, abs=1e-5)
    assert step.trainer.predict(PICTURES[:0]).shape == (0, 5)


def test_step_is_a_function_of_the_plan_and_its_seed() -> None:
    first, again, other = (take_step(make_plan(seed=seed)) for seed in (0, 0, 1))
    same = again.trainer.state()
    for name, array in first.trainer.state().items():
        assert array.tobytes() == same[name].tobytes(), name
    assert other.before["network/0"].tobytes() != first.before["network/0"].tobytes()


def test_restored_trainer_continues_bit_identically() -> None:
    first, restored = take_step(make_plan()).trainer, TensorFlowTrainer(make_plan(), 10, None)
    restored.restore(first.state())
    losses = [each.train_step(tf.constant(PICTURES), tf.constant(TARGETS)) for each in (first, restored)]
    assert losses[0] == losses[1]
    assert first.steps == restored.steps == 2
    same = restored.state()
    for name, array in first.state().items():
        assert array.tobytes() == same[name].tobytes(), name


def test_only_kernels_decay() -> None:
    step = take_step(make_plan(learning_rate=1e-6, weight_decay=0.5e6))
    networks = {name: array for name, array in step.before.items() if name.startswith("network/")}
    after = step.trainer.state()
    for name, array in networks.items():
        if array.ndim > 1:
            # The decay halves each kernel; the gradient step is negligible.
            assert after[name] == pytest.approx(array / 2, abs=1e-5), name
        elif (array == 1).all() and not np.array_equal(after[name], array):
            assert np.abs(after[name] - 1).max() < 0.4, name


def test_layers_before_the_first_trained_one_keep_weights_and_statistics() -> None:
    step = take_step(make_plan(architecture="efficientnetlite0", trained_from="block3b_expand_conv"))
    after = step.trainer.ema_weights()
    changed = {
        name.split("/")[0] for name, array in step.average_before.items() if not np.array_equal(after[name], array)
    }
    assert not [name for name in changed if name.startswith(("stem", "block1", "block2", "block3a"))]
    assert {"block3b_expand_conv", "block3b_expand_bn", "block7a_project_conv"} <= changed


def test_targets_may_be_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.training.tensorflow_trainer.DROPOUT_RATE", 0.0)
    soft = TARGETS * 0.8 + 0.1
    trainer = TensorFlowTrainer(make_plan(), 10, None)
    network = as_network(trainer.ema_weights())
    loss = trainer.train_step(tf.constant(PICTURES), tf.constant(soft))
    features = np.asarray(network.get_layer(DENSENET121)(INPUTS, training=True))
    outputs = np.asarray(network.get_layer(HEAD)(features.mean(axis=(1, 2))), np.float64)
    entropy = -(soft * np.log(outputs) + (1 - soft) * np.log(1 - outputs)).mean()
    assert loss == pytest.approx(entropy, rel=1e-4)


def test_dtype_policy_of_the_process_is_unchanged() -> None:
    TensorFlowTrainer(make_plan(precision="bfloat16"), 10, None)
    assert keras.config.dtype_policy().name == "float32"
