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
from worker.model.class_activation_maps import measure_evidence_scale
from worker.model.decide_grade import decide_grade
from worker.model.engines.factory import exact_engine, make_engine

SAMPLES = (
    ("IDRiD_138", "IDRiD_139"), ("IDRiD_021", "IDRiD_203"), ("IDRiD_020", "IDRiD_047"), ("IDRiD_001", "IDRiD_055"),
    ("IDRiD_008", "IDRiD_022"),
)  # fmt: skip
"""Two of the demo's photographs of each grade, from IDRiD (Porwal et al. 2018, CC BY 4.0)."""


def add_golden_inputs(folder: Path) -> AnyManifest:
    """Compute the golden inputs of a bundle, and a scale if it has none, add them, and return its manifest.

    Raises ModelError for an invalid bundle, and if the model grades none of the samples; UsageError if the folder
    cannot be written; SettingsError without TensorFlow and JAX.
    """
    model = load_model(folder)
    golden, evidence_scale = compute_golden_inputs(model)
    return attach_golden_inputs(folder, golden, evidence_scale=model.evidence_scale or evidence_scale)


def compute_golden_inputs(model: Model) -> tuple[GoldenInputs, float | None]:
    """Return one sample of each grade with the model's answers, computed in float32, and a scale.

    The scale of the maps, in logits, is the one of `measure_evidence_scale` for the samples; None if none is referable.

    Of the two samples of a grade, the one whose probabilities are further from the thresholds is taken, so that
    rounding does not change which output its map explains. Raises as `add_golden_inputs` does.
    """
    engine = make_engine(exact_engine(), model, "float32")
    chosen: list[tuple[ModelInput, Prediction]] = []
    for names in SAMPLES:
        inputs = list(_prepare(names, model))
        answers = zip(inputs, engine.predict(inputs), strict=True)
        chosen += sorted(answers, key=lambda pair: _measure_margin(pair[1], model), reverse=True)[:1]
    if not chosen:
        raise ModelError(f"{model.name} grades none of the sample photographs")
    referred = [one for _, one in chosen if decide_grade(one, model).referable]
    evidence = [one.evidence.logits for one in referred if one.evidence is not None]
    pictures = [one if isinstance(one, tuple) else (one,) for one, _ in chosen]
    golden = GoldenInputs(
        pictures=tuple(
            np.stack([np.asarray(one, np.uint8) for one in column]) for column in zip(*pictures, strict=True)
        ),
        probabilities=np.stack([answer.probabilities for _, answer in chosen]),
        saliency=np.stack([answer.saliency for _, answer in chosen]),
    )
    return golden, measure_evidence_scale(evidence)


def _prepare(names: tuple[str, ...], model: Model) -> Iterator[ModelInput]:
    for name in names:
        data = (files("producer.demo") / "samples" / f"{name}.jpg").read_bytes()
        with suppress(ImageError, Ungradable):
            yield prepare_image(
                data, recipe=model.recipe, overlay_size_px=64, limits=ImageLimits(), extra_recipes=model.extra_recipes
            ).model_input


def _measure_margin(prediction: Prediction, model: Model) -> float:
    return float(np.abs(prediction.probabilities - np.asarray(model.thresholds, np.float32)).min())
