"""Make golden inputs: grade sample photographs in float32, and add them to a bundle."""

from collections.abc import Iterator
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

import numpy as np

from worker.core.errors import ImageError, ModelError, Ungradable
from worker.core.predictions import ModelInput, Prediction
from worker.imaging.headers.header import ImageLimits
from worker.imaging.steps.prepare import prepare_image
from worker.model.bundle.ensemble import AnyManifest, Model, load_model
from worker.model.bundle.golden import GoldenInputs
from worker.model.bundle.writer import attach_golden_inputs
from worker.model.engines.factory import make_engine

SAMPLES = (
    ("IDRiD_138", "IDRiD_139"), ("IDRiD_021", "IDRiD_203"), ("IDRiD_020", "IDRiD_047"), ("IDRiD_001", "IDRiD_055"),
    ("IDRiD_008", "IDRiD_022"),
)  # fmt: skip
"""Two of the demo's photographs of each grade, from IDRiD (Porwal et al. 2018, CC BY 4.0)."""


def add_golden_inputs(folder: Path) -> AnyManifest:
    """Compute the golden inputs of a bundle, add them to its folder, and return its manifest.

    Raises ModelError for an invalid bundle, and if the model grades none of the samples; UsageError if the folder
    cannot be written; SettingsError without TensorFlow.
    """
    return attach_golden_inputs(folder, compute_golden_inputs(load_model(folder)))


def compute_golden_inputs(model: Model) -> GoldenInputs:
    """Return one sample of each grade with the model's answers, computed by TensorFlow in float32.

    Of the two samples of a grade, the one whose probabilities are further from the thresholds is taken, so that
    rounding does not change which output its map explains. Raises as `add_golden_inputs` does.
    """
    engine = make_engine("tensorflow", model, "float32")
    chosen: list[tuple[ModelInput, Prediction]] = []
    for names in SAMPLES:
        inputs = list(_prepare(names, model))
        answers = zip(inputs, engine.predict(inputs), strict=True)
        chosen += sorted(answers, key=lambda pair: _measure_margin(pair[1], model), reverse=True)[:1]
    if not chosen:
        raise ModelError(f"{model.name} grades none of the sample photographs")
    pictures = [one if isinstance(one, tuple) else (one,) for one, _ in chosen]
    return GoldenInputs(
        pictures=tuple(
            np.stack([np.asarray(one, np.uint8) for one in column]) for column in zip(*pictures, strict=True)
        ),
        probabilities=np.stack([answer.probabilities for _, answer in chosen]),
        saliency=np.stack([answer.saliency for _, answer in chosen]),
    )


def _prepare(names: tuple[str, ...], model: Model) -> Iterator[ModelInput]:
    for name in names:
        data = (files("producer.demo") / "samples" / f"{name}.jpg").read_bytes()
        with suppress(ImageError, Ungradable):
            yield prepare_image(
                data, recipe=model.recipe, overlay_size_px=64, limits=ImageLimits(), extra_recipes=model.extra_recipes
            ).model_input


def _measure_margin(prediction: Prediction, model: Model) -> float:
    return float(np.abs(prediction.probabilities - np.asarray(model.thresholds, np.float32)).min())
