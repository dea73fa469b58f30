"""Both engines and ensembles measure the unfamiliarity in the forward pass; the bundle's file carries it."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.unit.worker.model.networks import SIDE, make_bundle, random_backbone_weights
from worker.core.vocabulary import Flag
from worker.model.bundle.bundle import Bundle, load_bundle
from worker.model.bundle.ensemble import (
    Ensemble,
    EnsembleManifest,
    Member,
    View,
    ledger_document,
    load_model,
    parse_manifest,
)
from worker.model.bundle.familiarity import Familiarity, FeatureSpace
from worker.model.bundle.writer import add_familiarity, copy_bundle, write_bundle, write_ensemble
from worker.model.decide_grade import decide_grade
from worker.model.engines.factory import make_engine
from worker.model.engines.features import FeatureReader
from worker.model.engines.protocol import Engine

IMAGES = list(np.random.default_rng(1).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8))

LITE, CHANNELS = "efficientnetlite0", 1280


def make_lite(seed: int = 0) -> Bundle:
    weights = random_backbone_weights(LITE, seed=seed)
    return make_bundle(weights, architecture=LITE, target_layer="last")


def make_space(channels: int, seed: int) -> FeatureSpace:
    random = np.random.default_rng(seed)
    return FeatureSpace(
        random.normal(size=(channels, 16)).astype(np.float32), random.normal(size=16).astype(np.float32)
    )


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of one network with a feature space."""
    folder = tmp_path_factory.mktemp("single")
    bundle = make_lite()
    manifest = write_bundle(folder / "plain", bundle.manifest, bundle.weights)
    add_familiarity(folder / "plain", folder / "familiar", manifest, Familiarity((make_space(CHANNELS, 0),), 40.0))
    return folder


def measure(engine: Engine) -> NDArray[np.float64]:
    found = [one.unfamiliarity for one in engine.predict(IMAGES)]
    assert None not in found
    return np.array(found, float)


def expected(model: Bundle | Ensemble) -> NDArray[np.float32]:
    assert model.familiarity is not None
    features = FeatureReader(model).read_pooled(IMAGES)
    spaces = model.familiarity.spaces
    return model.familiarity.unfamiliarity(
        [one @ space.directions for one, space in zip(features, spaces, strict=True)]
    )


@pytest.mark.parametrize("name", ["tensorflow", "openvino"])
def test_engine_measures_the_unfamiliarity(single: Path, name: str) -> None:
    model = load_bundle(single / "familiar")
    found = measure(make_engine(name, model))  # type: ignore[arg-type]
    # OpenVINO computes in bfloat16 if the processor supports it.
    assert found == pytest.approx(expected(model), rel=1e-3 if name == "tensorflow" else 0.1)


def test_grades_and_id_do_not_depend_on_the_feature_space(single: Path) -> None:
    plain, familiar = (load_bundle(single / name) for name in ("plain", "familiar"))
    assert plain.model_id == familiar.model_id
    one, other = (make_engine("tensorflow", model).predict(IMAGES) for model in (plain, familiar))
    assert [p.unfamiliarity for p in one] == [None] * 3
    assert all(np.array_equal(a.probabilities, b.probabilities) for a, b in zip(one, other, strict=True))
    assert all(np.array_equal(a.saliency, b.saliency) for a, b in zip(one, other, strict=True))


def test_copy_keeps_the_feature_space(single: Path, tmp_path: Path) -> None:
    model = load_bundle(single / "familiar")
    copy_bundle(single / "familiar", tmp_path / "copy", model.manifest.model_copy(update={"name": "copy"}))
    assert load_bundle(tmp_path / "copy").manifest.familiarity_sha256 == model.manifest.familiarity_sha256


def test_ensemble_uses_the_first_view_of_each_member(tmp_path: Path) -> None:
    members = []
    for number in range(2):
        bundle = make_lite(number)
        manifest = write_bundle(tmp_path / f"{number}", bundle.manifest, bundle.weights)
        members.append(Member(manifest=manifest, views=(View.AS_IS, View.MIRRORED)[: number + 1]))
    manifest = EnsembleManifest(name="both", members=tuple(members))
    parts = [(tmp_path / f"{number}" / "weights.safetensors", tmp_path / "none") for number in range(2)]
    write_ensemble(tmp_path / "both", manifest, parts)
    familiarity = Familiarity((make_space(CHANNELS, 0), make_space(CHANNELS, 1)), 40.0)
    add_familiarity(tmp_path / "both", tmp_path / "familiar", manifest, familiarity)
    model = load_model(tmp_path / "familiar")
    assert model.model_id == manifest.model_id
    assert measure(make_engine("tensorflow", model)) == pytest.approx(expected(model), rel=1e-3)
    assert parse_manifest(ledger_document(model.manifest)).model_id == manifest.model_id
    copy_bundle(tmp_path / "familiar", tmp_path / "copy", model.manifest)
    assert load_model(tmp_path / "copy").familiarity is not None


@pytest.mark.parametrize(("scale", "flagged"), [(1e-3, True), (1e6, False)])
def test_image_beyond_the_scale_is_flagged(single: Path, tmp_path: Path, scale: float, *, flagged: bool) -> None:
    model = load_bundle(single / "plain")
    familiarity = Familiarity((make_space(CHANNELS, 0),), scale)
    add_familiarity(single / "plain", tmp_path / "b", model.manifest, familiarity)
    familiar = load_bundle(tmp_path / "b")
    prediction = make_engine("openvino", familiar).predict(IMAGES[:1])[0]
    assert (Flag.UNFAMILIAR in decide_grade(prediction, familiar).flags) == flagged
