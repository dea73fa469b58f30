"""`fundus model audit` with a real network on photographs with lesion masks."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from tests.unit.worker.model.networks import make_bundle, random_weights
from worker.commands.model import app
from worker.core.errors import UsageError
from worker.evaluation.saliency.weight_randomisation import STAGES
from worker.model.bundle.writer import write_bundle
from worker.model.engines.openvino_engine import OpenVinoEngine


def run(*arguments: str) -> str:
    environment = {"FUNDUS_ENGINE": "openvino"}
    outcome = CliRunner().invoke(app, ["audit", *arguments], env=environment, catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    return outcome.stdout


def photograph(seed: int) -> np.ndarray[Any, Any]:
    """Return a field with texture, on which the maps of different models differ."""
    rgb = np.zeros((128, 128, 3), np.uint8)
    cv2.circle(rgb, (64, 64), 62, (60, 90, 170), -1)
    noise = np.random.default_rng(seed).normal(0, 1, (16, 16, 3)).astype(np.float32)
    coarse = cv2.resize(noise, (128, 128), interpolation=cv2.INTER_CUBIC) * 30
    return np.where(rgb > 0, np.clip(rgb + coarse, 20, 255), 0).astype(np.uint8)


@pytest.fixture(scope="module")
def lesions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lesions")
    for number in range(3):
        cv2.imwrite(str(folder / f"eye{number}.png"), photograph(number))
        mask = np.zeros((128, 128), np.uint8)
        mask[30 + 10 * number : 50 + 10 * number, 70:90] = 2
        cv2.imwrite(str(folder / f"eye{number}_lesions.png"), mask)
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network whose highest output passed is 2 for all of these photographs."""
    weights = random_weights()
    seen = [cv2.resize(photograph(number), (96, 96)) for number in range(3)]
    logits = OpenVinoEngine(make_bundle(weights), "f32").class_maps(seen).logits  # type: ignore[arg-type]
    wanted = np.array([3, 2, 1, -6, -6], np.float32)
    bias = weights["head/bias"] - logits.mean(axis=0) + wanted
    made = make_bundle(weights | {"head/bias": bias})
    folder = tmp_path_factory.mktemp("bundle") / "random"
    write_bundle(folder, made.manifest, made.weights)
    return folder


def test_quick_audit_compares_with_randomised_models(lesions: Path, bundle: Path) -> None:
    found = json.loads(run(str(bundle), "--lesions", str(lesions), "--quick", "--json"))
    assert found["game"]["whole"]["images"] == found["control"]["whole"]["images"] == 3
    assert found["coverage"]["kinds"].keys() == {"any lesion", "haemorrhages"}
    assert found["control"]["models"] == 3
    assert found["game"]["whole"]["chance"] == found["control"]["whole"]["chance"]
    # The maps of the randomised models are not empty and differ from those of the model.
    assert found["control"]["whole"]["energy"]["value"] > 0
    assert found["game"]["whole"]["energy"] != found["control"]["whole"]["energy"]
    assert (found["erasing"], found["redrawn"], found["turned"]) == (None, {}, [])


@pytest.mark.slow
def test_whole_audit_is_one_page_with_plots(lesions: Path, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "audit"
    printed = run(str(bundle), "--lesions", str(lesions), "--out", str(out))
    assert str(out / "AUDIT.md") in printed
    page = (out / "AUDIT.md").read_text()
    assert 'srcset="audit-dark.png"><img src="audit.png"' in page
    plots = cv2.imread(str(out / "audit.png"))
    assert plots is not None
    assert cv2.imread(str(out / "audit-dark.png")).shape == plots.shape
    assert plots.shape[1] > 1500
    found = json.loads((out / "audit.json").read_text())
    assert list(found["redrawn"]) == list(STAGES)
    assert found["redrawn"]["all layers"]["value"] < 0.9
    assert [turn["degrees"] for turn in found["turned"]] == [-15, -10, -5, 5, 10, 15]
    nearest, farthest = (found["turned"][place]["likeness"]["value"] for place in (3, 5))
    assert nearest > 0.5
    assert nearest >= farthest - 0.2
    assert found["erasing"]["images"] == 3
    whole = found["erasing"]["orders"]["map"]
    assert whole["deletion"][0] == pytest.approx(whole["insertion"][-1], abs=0.02)


def test_folder_without_masks_is_rejected(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no _lesions\.png in"):
        run(str(bundle), "--lesions", str(tmp_path), "--quick")
