"""Maps of an ensemble move onto lesions, and the bundle that is written has them."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.unit.worker.model.networks import make_bundle, random_weights
from worker.core.errors import UsageError
from worker.core.settings import parse_settings
from worker.evaluation.saliency.pointing_game import play_pointing_game
from worker.model.bundle.bundle import WEIGHTS_FILE
from worker.model.bundle.ensemble import EnsembleManifest, Member, Model, View, load_model
from worker.model.bundle.writer import write_bundle, write_ensemble
from worker.model.engines.factory import make_engine
from worker.model_card.lesion_localisation import MIN_MASKS, LocalisedModel, localise_model, write_localised
from worker.training.dataset import ExcludedImage, hash_pixels, prepare_examples
from worker.training.examples import read_examples
from worker.training.lineage import Lineage
from worker.training.split import HASH_DIGITS

SIDE = 128


def photograph(seed: int) -> np.ndarray[Any, Any]:
    """Return a field with texture, and dark spots in a part of it that depends on the seed."""
    rgb = np.zeros((SIDE, SIDE, 3), np.uint8)
    cv2.circle(rgb, (SIDE // 2, SIDE // 2), SIDE // 2 - 2, (60, 90, 170), -1)
    noise = np.random.default_rng(seed).normal(0, 1, (16, 16, 3)).astype(np.float32)
    coarse = cv2.resize(noise, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) * 12
    shown = np.where(rgb > 0, np.clip(rgb + coarse, 40, 255), 0).astype(np.uint8)
    shown[lesion(seed) > 0] = (10, 10, 60)
    return shown


def lesion(seed: int) -> np.ndarray[Any, Any]:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    x, y = 38 + 52 * (seed % 2), 38 + 52 * (seed // 2 % 2)
    mask[y - 10 : y + 10 : 4, x - 10 : x + 10] = 2
    return mask


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs with masks in `masks`, a manifest of them, and the bundles `both` and `turned`."""
    folder = tmp_path_factory.mktemp("localise")
    (folder / "masks").mkdir()
    rows = ["uri,image_id,reference_grade"]
    for number in range(MIN_MASKS):
        cv2.imwrite(str(folder / "masks" / f"eye{number}.png"), photograph(number))
        cv2.imwrite(str(folder / "masks" / f"eye{number}_lesions.png"), lesion(number))
        rows.append(f"masks/eye{number}.png,eye{number},{number % 5}")
    (folder / "eyes.csv").write_text("\n".join([*rows, ""]))
    manifests = []
    for number in range(2):
        bundle = make_bundle(random_weights(number), side=SIDE)
        manifests.append(write_bundle(folder / f"{number}", bundle.manifest, bundle.weights))
    parts = [(folder / f"{number}" / WEIGHTS_FILE, folder / "none") for number in range(2)]
    for name, views in (("both", (View.AS_IS,)), ("turned", (View.AS_IS, View.MIRRORED))):
        members = tuple(Member(manifest=one, weight=1 + 2 * n, views=views) for n, one in enumerate(manifests))
        write_ensemble(folder / name, EnsembleManifest(name=name, members=members, explained_outputs=(2, 2)), parts)
    return folder


def localise(folder: Path, model: Model, masks: Path) -> LocalisedModel:
    settings = parse_settings(source_roots=str(folder))
    examples = read_examples(folder / "eyes.csv", settings, lambda _sentence: None)
    prepared = [one for _, one in prepare_examples(examples, model.recipe, settings=settings)]
    hashes = frozenset(hash_pixels(one)[:HASH_DIGITS] for one in prepared if not isinstance(one, ExcludedImage))
    assert len(hashes) == MIN_MASKS
    return localise_model(
        model,
        Lineage(hashes),
        folder / "eyes.csv",
        masks,
        settings,
        max_drift=0.1,
        limit=200,
        on_warning=lambda _sentence: None,
        on_progress=lambda: None,
    )


def energy(model: Model, masks: Path) -> float:
    scores = play_pointing_game(
        make_engine("openvino", model), masks, on_warning=lambda _sentence: None, on_progress=lambda: None
    )
    return float(np.mean([score.energy for score in scores]))


def test_energy_on_lesions_rises_in_the_bundle_that_is_written(folder: Path, tmp_path: Path) -> None:
    model = load_model(folder / "both")
    found = localise(folder, model, folder / "masks")
    assert list(found.outputs) == [2]
    assert found.outputs[2].drift <= 0.1
    write_localised(model, folder / "both", tmp_path / "new", "new", found.weights)
    changed = load_model(tmp_path / "new")
    before, after = energy(model, folder / "masks"), energy(changed, folder / "masks")
    assert found.outputs[2].before == pytest.approx(before, abs=0.05)
    assert found.outputs[2].after == pytest.approx(after, abs=0.05)
    assert after > before
    kernels = [one.networks[0].weights["head/kernel"] for one in (model, changed)]  # type: ignore[union-attr]
    assert np.array_equal(kernels[0][:, [0, 1, 3, 4]], kernels[1][:, [0, 1, 3, 4]])
    assert not np.array_equal(kernels[0][:, 2], kernels[1][:, 2])


def test_views_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="turned has turned or mirrored views"):
        localise(folder, load_model(folder / "turned"), folder / "masks")


def test_too_few_masks_are_refused(folder: Path, tmp_path: Path) -> None:
    for name in ("eye0.png", "eye0_lesions.png"):
        (tmp_path / name).write_bytes((folder / "masks" / name).read_bytes())
    with pytest.raises(UsageError, match="has 1 photographs with masks; 12 are needed"):
        localise(folder, load_model(folder / "both"), tmp_path)
