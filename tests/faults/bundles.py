"""Model bundles for tests: the shipped network with a small input size, and damaged bundles."""

from pathlib import Path

import numpy as np

from worker.model.bundle.bundle import MANIFEST_FILE, WEIGHTS_FILE, Bundle, load_bundle
from worker.model.bundle.writer import write_bundle

SMALL_PX = 64


def write_small_bundle(folder: Path) -> Bundle:
    """Write a bundle with the shipped weights and an input of 64 x 64 pixels."""
    shipped = load_bundle("densenet121-aptos-224")
    recipe = shipped.recipe.model_copy(update={"input_size_px": SMALL_PX})
    draft = shipped.manifest.model_copy(update={"name": "small", "recipe": recipe})
    write_bundle(folder, draft, shipped.weights)
    return load_bundle(folder)


def write_overflowing_bundle(folder: Path) -> Bundle:
    """Write a bundle with finite weights whose outputs are not finite: the head overflows float32."""
    small = write_small_bundle(folder.with_name(f"{folder.name}-sound"))
    kernel = np.full_like(small.weights["head/kernel"], np.finfo(np.float32).max)
    weights = {**small.weights, "head/kernel": kernel}
    write_bundle(folder, small.manifest, weights)
    return load_bundle(folder)


def truncate_weights(folder: Path) -> None:
    """Truncate the weights file to half its size, as an interrupted copy does."""
    path = folder / WEIGHTS_FILE
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def rename_architecture(folder: Path) -> None:
    """Make `model.json` name an unsupported architecture."""
    path = folder / MANIFEST_FILE
    path.write_text(path.read_text().replace('"densenet121"', '"densenet201"'))
