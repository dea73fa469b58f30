"""Program that reads one file of weights from standard input and writes its weights to standard output as safetensors.

A SavedModel is a folder, which is the last argument. The importer runs this program as a separate process, because
damaged files can crash the libraries that read them.
"""

import resource
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worker.core.errors import ModelError
from worker.imaging.recipe import Recipe
from worker.model.architecture import DENSENET121
from worker.model.bundle.weights import check_weights, serialise_weights
from worker.model.efficientnet_lite import VARIANTS
from worker.model.weights_import.efficientnet_lite_torch import convert_weights
from worker.model.weights_import.torch_file import is_torch_file, read_tensors
from worker.model.weights_import.weights_file import read_keras_weights

REJECTED = 3
"""Exit status of a file that is rejected; the reason is on standard output."""
_MAX_MEMORY_BYTES = 4 * 1024 * 1024 * 1024


def main() -> int:
    """Arguments: the file's name for errors, the architecture, its recipe as JSON and, for a SavedModel, the folder."""
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        weights = _read(*sys.argv[1:])
    except ModelError as error:
        sys.stdout.buffer.write(error.detail.encode(errors="replace"))
        return REJECTED
    sys.stdout.buffer.write(serialise_weights(weights, float16_kernels=False))
    return 0


def _read(
    source: str, architecture: str, recipe_json: str, folder: str | None = None
) -> dict[str, NDArray[np.float32]]:
    recipe = Recipe.model_validate_json(recipe_json)
    if architecture != DENSENET121:
        if folder is not None:
            raise ModelError(f"{source}: a SavedModel is supported for {DENSENET121} only; save the weights as .h5")
        data = sys.stdin.buffer.read()
        if is_torch_file(data):
            return _read_torch_file(data, architecture, recipe, source=source)
        from worker.model.weights_import.backbone_weights import read_backbone_weights

        return read_backbone_weights(data, architecture=architecture, input_size_px=recipe.input_size_px, source=source)
    if folder is None:
        return read_keras_weights(sys.stdin.buffer.read(), source=source)
    # TensorFlow takes seconds to load, and only this format needs it.
    from worker.model.weights_import.saved_model import read_saved_model

    return read_saved_model(Path(folder), source=source)


def _read_torch_file(data: bytes, architecture: str, recipe: Recipe, *, source: str) -> dict[str, NDArray[np.float32]]:
    if architecture not in VARIANTS:
        raise ModelError(f"{source}: a PyTorch file is supported for EfficientNet-Lite only, not for {architecture}")
    weights = convert_weights(read_tensors(data, source=source), architecture, recipe.input_range, source=source)
    return check_weights(weights, source=source, architecture=architecture)


if __name__ == "__main__":
    sys.exit(main())
