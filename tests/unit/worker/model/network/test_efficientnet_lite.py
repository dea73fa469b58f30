"""EfficientNet-Lite has the size of the published networks, and both engines compute the same."""

import numpy as np
import pytest

from tests.unit.worker.model.networks import make_manifest, random_backbone_weights
from worker.core.vocabulary import Precision
from worker.model.architecture import HEAD
from worker.model.bundle.bundle import Bundle
from worker.model.efficientnet_lite import list_blocks
from worker.model.engines.factory import make_engine
from worker.model.engines.openvino_engine import OpenVinoEngine
from worker.model.engines.tensorflow_engine import TensorFlowEngine
from worker.model.network.build import build_network, get_backbone

CLASSIFIER_WEIGHTS = 1280 * 1000 + 1000
"""Of ImageNet's 1,000 classes; the published numbers include them."""


@pytest.mark.parametrize(
    ("architecture", "published", "blocks"),
    [
        ("efficientnetlite0", 4_652_008, 16),
        ("efficientnetlite1", 5_416_680, 21),
        ("efficientnetlite2", 6_092_072, 21),
        ("efficientnetlite3", 8_197_096, 24),
        ("efficientnetlite4", 13_006_568, 30),
    ],
)
def test_number_of_weights_is_the_published_one(architecture: str, published: int, blocks: int) -> None:
    backbone = get_backbone(build_network(64, architecture))
    trainable = sum(int(np.prod(variable.shape)) for variable in backbone.trainable_variables)
    assert trainable + CLASSIFIER_WEIGHTS == published
    assert len(list(list_blocks(architecture))) == blocks


def make(side: int) -> Bundle:
    architecture = "efficientnetlite2"
    weights = random_backbone_weights(architecture, side)
    weights[f"{HEAD}/kernel"] = np.abs(weights[f"{HEAD}/kernel"])
    return Bundle(make_manifest(side=side, target_layer="last", architecture=architecture), weights)  # type: ignore[arg-type]


# An odd size pads every convolution with a stride on one side only.
@pytest.mark.parametrize("side", [64, 71])
def test_openvino_and_tensorflow_compute_the_same(side: int) -> None:
    bundle = make(side)
    images = list(np.random.default_rng(1).integers(0, 256, (3, side, side, 3), np.uint8))
    expected = TensorFlowEngine(bundle).class_maps(images)
    found = OpenVinoEngine(bundle, "f32").class_maps(images)
    assert expected.maps.shape == (3, 5, -(-side // 32), -(-side // 32))
    scale = float(np.abs(expected.maps).max())
    assert found.maps == pytest.approx(expected.maps, abs=1e-4 * scale)
    assert found.logits == pytest.approx(expected.logits, abs=1e-4 * scale)


def test_openvino_computes_in_float32_unless_another_precision_is_chosen() -> None:
    engine = make_engine("openvino", make(64))
    assert isinstance(engine, OpenVinoEngine)
    assert engine.description.precision == Precision.FLOAT32
