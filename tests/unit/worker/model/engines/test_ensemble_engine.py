"""An ensemble's saliency is the Grad-CAM of its averaged logit, with any engines and views of its members."""

from collections.abc import Sequence
from types import MappingProxyType

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from tests.unit.worker.model.networks import SIDE, make_bundle, random_backbone_weights, random_weights
from worker.core.errors import ModelError
from worker.core.vocabulary import Precision
from worker.model.architecture import HEAD
from worker.model.bundle.bundle import Bundle
from worker.model.bundle.ensemble import Ensemble, EnsembleManifest, Member, View
from worker.model.engines.ensemble_engine import EnsembleEngine, apply_view, invert_view, measure_disagreement
from worker.model.engines.factory import make_engine
from worker.model.engines.openvino_engine import OpenVinoEngine
from worker.model.engines.protocol import Engine
from worker.model.engines.tensorflow_engine import TensorFlowEngine
from worker.model.network.build import get_backbone, load_network
from worker.model.network.gradcam import compute_logits

SMALL_PX = 64


def pictures(count: int, side: int = SIDE) -> list[NDArray[np.uint8]]:
    return list(np.random.default_rng(2).integers(0, 256, (count, side, side, 3), dtype=np.uint8))


def make_lite(weights: dict[str, NDArray[np.float32]], side: int = SIDE, **others: float) -> Bundle:
    return make_bundle(weights, side=side, architecture="efficientnetlite0", target_layer="last", **others)


def centred(bundle: Bundle) -> Bundle:
    """A network whose outputs are each passed by about half of the pictures; which ones differs between networks."""
    logits = OpenVinoEngine(bundle, "f32").class_maps(pictures(8, bundle.recipe.input_size_px)).logits
    bias = {"head/bias": bundle.weights["head/bias"] - np.median(logits, axis=0)}
    return Bundle(bundle.manifest, MappingProxyType(dict(bundle.weights) | bias))


@pytest.fixture(scope="module")
def first() -> Bundle:
    return centred(make_lite(random_backbone_weights("efficientnetlite0")))


@pytest.fixture(scope="module")
def second() -> Bundle:
    return centred(make_lite(random_backbone_weights("efficientnetlite0", seed=1)))


@pytest.fixture(scope="module")
def dense() -> Bundle:
    return centred(make_bundle(random_weights(1)))


@pytest.fixture(scope="module")
def small() -> Bundle:
    return centred(make_lite(random_backbone_weights("efficientnetlite0", SMALL_PX, seed=1), SMALL_PX))


def join(
    networks: Sequence[Bundle], weights: Sequence[float], views: Sequence[View] = (View.AS_IS,), **others: object
) -> Ensemble:
    members = [
        Member(manifest=network.manifest, weight=weight, views=tuple(views))
        for network, weight in zip(networks, weights, strict=True)
    ]
    return Ensemble(EnsembleManifest(name="joined", members=tuple(members), **others), tuple(networks))  # type: ignore[arg-type]


def run(ensemble: Ensemble) -> EnsembleEngine:
    return EnsembleEngine(ensemble, [OpenVinoEngine(network, "f32") for network in ensemble.networks])


def explain_average(
    networks: Sequence[keras.Model], shares: Sequence[float], images: Sequence[NDArray[np.uint8]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Averaged logit and Grad-CAM of one picture by gradient tape, by the paper's definition.

    images: one for each network. The channels of all networks are one feature map: alpha is the mean of the
    averaged logit's gradient over its pixels, in units of the whole map where the members' sizes differ.
    """
    with tf.GradientTape() as tape:
        features = [
            get_backbone(network)(image[None].astype(np.float32) / 127.5 - 1, training=False)
            for network, image in zip(networks, images, strict=True)
        ]
        tape.watch(features)
        logits = sum(
            share * compute_logits(one, network)[0]
            for share, one, network in zip(shares, features, networks, strict=True)
        )
        explained = max(np.flatnonzero(logits.numpy() > 0), default=0)
        logit = logits[explained]
    side = max(one.shape[1] for one in features)
    total = np.zeros((side, side), np.float32)
    for one, gradient in zip(features, tape.gradient(logit, features), strict=True):
        alpha = tf.reduce_mean(gradient, axis=(1, 2)) * (one.shape[1] * one.shape[2])
        weighed = tf.reduce_sum(one * alpha[:, None, None], axis=-1)[..., None]
        total += tf.image.resize(weighed, (side, side)).numpy()[0, ..., 0]
    positive = np.maximum(total, 0)
    return logits.numpy(), positive / positive.max() if positive.any() else positive


@pytest.fixture(scope="module")
def averages(first: Bundle, dense: Bundle) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """What both networks find together in each of five pictures, by gradient tape."""
    networks = [load_network(first), load_network(dense)]
    return [explain_average(networks, [0.25, 0.75], [image, image]) for image in pictures(5)]


@pytest.mark.parametrize("library", ["openvino", "tensorflow"])
def test_map_equals_grad_cam_of_the_averaged_logit_by_tape(
    library: str,
    first: Bundle,
    dense: Bundle,
    averages: list[tuple[NDArray[np.float32], NDArray[np.float32]]],
) -> None:
    kind = OpenVinoEngine if library == "openvino" else TensorFlowEngine
    options = ("f32",) if library == "openvino" else ()
    engine = EnsembleEngine(join([first, dense], [1, 3]), [kind(first, *options), kind(dense, *options)])
    explained = set()
    for prediction, (logits, saliency) in zip(engine.predict(pictures(5)), averages, strict=True):
        np.testing.assert_allclose(prediction.probabilities, 1 / (1 + np.exp(-logits)), atol=1e-5)
        np.testing.assert_allclose(prediction.saliency, saliency, atol=1e-4)
        explained.add(max(np.flatnonzero(logits > 0), default=0))
    assert len(explained) >= 2


def test_members_with_different_sizes_get_their_own_picture_and_share_the_finer_map(
    small: Bundle, first: Bundle
) -> None:
    ensemble = join([small, first], [1, 1])
    assert [recipe.input_size_px for recipe in ensemble.manifest.recipes] == [SMALL_PX, SIDE]
    networks = [load_network(small), load_network(first)]
    pairs = list(zip(pictures(3, SMALL_PX), pictures(3), strict=True))
    for prediction, pair in zip(run(ensemble).predict(pairs), pairs, strict=True):
        logits, saliency = explain_average(networks, [0.5, 0.5], pair)
        assert prediction.saliency.shape == (3, 3)
        np.testing.assert_allclose(prediction.probabilities, 1 / (1 + np.exp(-logits)), atol=1e-5)
        np.testing.assert_allclose(prediction.saliency, saliency, atol=1e-4)


def test_with_all_views_a_rotated_picture_gives_the_rotated_map(first: Bundle) -> None:
    engine = run(join([first], [1], list(View)))
    image = pictures(1)[0]
    upright = engine.predict([image])[0]
    for view in (View.TURNED_90, View.MIRRORED, View.MIRRORED_270):
        turned = engine.predict([apply_view(image, view)])[0]
        np.testing.assert_allclose(turned.probabilities, upright.probabilities, atol=1e-5)
        back = invert_view(np.broadcast_to(turned.saliency, (1, 5, 3, 3)), view)[0, 0]
        np.testing.assert_allclose(back, upright.saliency, atol=1e-4)


def test_views_are_applied_and_inverted_exactly() -> None:
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    corner = {view: apply_view(picture, view)[0, 0, 0] for view in View}
    # Rows 0 3 / 6 9: a rotation by 90 degrees counter-clockwise makes the right column the top row.
    assert [corner[view] for view in (View.AS_IS, View.TURNED_90, View.TURNED_180, View.TURNED_270)] == [0, 3, 9, 6]
    assert [corner[view] for view in (View.MIRRORED, View.MIRRORED_90)] == [3, 0]
    assert len({apply_view(picture, view).tobytes() for view in View}) == 8
    maps = np.random.default_rng(0).random((1, 5, 4, 4)).astype(np.float32)
    for view in View:
        as_seen = apply_view(maps[0, 0][..., None], view)[..., 0]
        assert np.array_equal(invert_view(np.broadcast_to(as_seen, (1, 5, 4, 4)), view)[0, 0], maps[0, 0])


def test_equal_members_predict_as_one_with_no_disagreement(first: Bundle) -> None:
    alone = OpenVinoEngine(first, "f32").predict(pictures(3))
    together = run(join([first, first], [1, 2])).predict(pictures(3))
    for one, both in zip(alone, together, strict=True):
        np.testing.assert_allclose(both.probabilities, one.probabilities, atol=1e-5)
        np.testing.assert_allclose(both.saliency, one.saliency, atol=1e-4)
        assert both.disagreement == pytest.approx(0, abs=1e-5)
        assert one.disagreement is None


def test_disagreement_is_the_standard_deviation_of_expected_grades() -> None:
    # Expected grades 1 and 3 with weights 0.75 and 0.25: mean 1.5, variance 0.75 x 0.25 + 0.25 x 2.25.
    sure = 50.0
    one, three = ([[sure, *(sure if k <= grade else -sure for k in range(1, 5))]] for grade in (1, 3))
    logits = [np.array(each, np.float32) for each in (one, three)]
    assert measure_disagreement(logits, np.array([0.75, 0.25], np.float32)) == pytest.approx([0.75**0.5])


def test_temperature_and_thresholds_of_the_ensemble_are_used(first: Bundle, second: Bundle) -> None:
    plain = run(join([first, second], [1, 1])).predict(pictures(4))
    strict = run(join([first, second], [1, 1], temperature=2.0, thresholds=(0.99,) * 5)).predict(pictures(4))
    for one, other in zip(plain, strict, strict=True):
        logits = np.log(one.probabilities / (1 - one.probabilities))
        np.testing.assert_allclose(other.probabilities, 1 / (1 + np.exp(-logits / 2)), atol=1e-5)
    weighed = [OpenVinoEngine(network, "f32").class_maps(pictures(4)).maps[:, 0] for network in (first, second)]
    none_passed = np.maximum(sum(weighed), 0)
    for prediction, expected in zip(strict, none_passed, strict=True):
        np.testing.assert_allclose(prediction.saliency, expected / max(expected.max(), 1e-9), atol=1e-4)


def test_temperature_of_a_member_divides_its_logits(first: Bundle) -> None:
    weights = dict(first.weights)
    halved = make_lite(
        {**weights, HEAD + "/kernel": weights[HEAD + "/kernel"] / 2, HEAD + "/bias": weights[HEAD + "/bias"] / 2}
    )
    cooled = make_lite(weights, temperature=2.0)
    one, other = (run(join([network, first], [1, 1])).predict(pictures(2)) for network in (halved, cooled))
    for left, right in zip(one, other, strict=True):
        np.testing.assert_allclose(left.probabilities, right.probabilities, atol=1e-6)


def test_full_batches_give_the_same_predictions_as_others(first: Bundle, second: Bundle) -> None:
    engine = run(join([first, second], [1, 1]))
    expected = engine.predict(pictures(4))
    engine.warm_up(3)
    for one, other in zip(engine.predict(pictures(4)[:3]), expected[:3], strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)
    assert engine.predict([]) == []


def test_setting_selects_the_members_engines(first: Bundle) -> None:
    ensemble = join([first], [1], [View.AS_IS, View.MIRRORED])
    engine: Engine = make_engine("auto", ensemble)
    assert isinstance(engine, EnsembleEngine)
    assert engine.description.engine == "openvino"
    assert make_engine("tensorflow", ensemble).description.engine == "tensorflow"


def test_wrong_number_of_pictures_is_named(small: Bundle, first: Bundle) -> None:
    engine = run(join([small, first], [1, 1]))
    with pytest.raises(ValueError, match="image 1 has 1 pictures, one for each of 2 recipes is needed"):
        engine.predict([(pictures(1, SMALL_PX)[0], pictures(1)[0]), pictures(1)[0]])
    with pytest.raises(ValueError, match="an image has several pictures, this model needs one"):
        OpenVinoEngine(first, "f32").predict([(pictures(1)[0], pictures(1)[0])])


def test_value_that_is_not_finite_names_its_image(first: Bundle) -> None:
    weights = dict(first.weights)
    weights["head/kernel"] = np.full_like(weights["head/kernel"], 3e38)
    engine = run(join([make_lite(weights), first], [1, 1]))
    with pytest.raises(ModelError, match="image 0 of 2 yields a value that is not finite"):
        engine.predict(pictures(2))
    with pytest.raises(ModelError, match="yields a value that is not finite"):
        engine.warm_up(2)


def test_explained_output_is_clipped_to_the_range(first: Bundle, second: Bundle) -> None:
    everything, capped = (run(join([first, second], [1, 1], explained_outputs=pair)) for pair in ((0, 4), (1, 2)))
    evidence = everything.class_maps(pictures(5))
    for row, one in enumerate(capped.predict(pictures(5))):
        output = min(max(max(np.flatnonzero(evidence.logits[row] > 0), default=0), 1), 2)
        positive = np.maximum(evidence.maps[row, output], 0)
        np.testing.assert_allclose(one.saliency, positive / max(positive.max(), 1e-9), atol=1e-5)


def test_efficientnet_lite_stays_in_float32(first: Bundle, dense: Bundle) -> None:
    assert make_engine("tensorflow", first, "bfloat16").description.precision is Precision.FLOAT32
    joined = make_engine("tensorflow", join([dense, first], [1, 1]), "bfloat16")
    assert joined.description.precision is Precision.BFLOAT16
