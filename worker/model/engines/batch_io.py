"""Validate and stack an engine's inputs, and make predictions of its outputs."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from worker.core.errors import ModelError
from worker.core.predictions import Evidence, ModelInput, Prediction
from worker.model.bundle.ensemble import Model
from worker.model.bundle.familiarity import Familiarity
from worker.model.class_activation_maps import ClassMaps, explain

Images = Sequence[NDArray[np.uint8] | NDArray[np.float32]]


def blank_images(side: int, count: int) -> list[NDArray[np.uint8]]:
    """Return black images uint8 (side, side, 3) for a warm-up."""
    return [np.zeros((side, side, 3), np.uint8)] * count


def validate_images(enhanced: Sequence[ModelInput], side: int) -> Images:
    """Return the images if an engine supports their shapes, types and ranges.

    Raises ValueError, naming the image, for other inputs.
    """
    images = [one for one in enhanced if not isinstance(one, tuple)]
    if len(images) < len(enhanced):
        raise ValueError("an image has several pictures, this model needs one")
    for index, image in enumerate(images):
        if image.shape != (side, side, 3) or image.dtype not in (np.uint8, np.float32):
            raise ValueError(
                f"image {index} is {image.dtype} {image.shape}, uint8 or float32 {(side, side, 3)} is needed"
            )
        # NaN fails this comparison.
        if image.dtype == np.float32 and not (image.min() >= 0 and image.max() <= 1):
            raise ValueError(f"image {index} has values from {image.min()} to {image.max()}, [0, 1] is needed")
    return images


def all_uint8(images: Images) -> bool:
    """Return whether all images are uint8."""
    return all(image.dtype == np.uint8 for image in images)


def stack_images(images: Images) -> tuple[NDArray[np.uint8 | np.float32], float]:
    """Return validated images as one array, uint8 if all are uint8, else float32, and its value of white: 255 or 1."""
    if all_uint8(images):
        return np.stack(images), 255.0
    return np.stack([_as_fractions(image) for image in images]), 1.0


def to_predictions(
    logits: NDArray[np.float32],
    probabilities: NDArray[np.float32],
    saliency: NDArray[np.float32],
    evidence: NDArray[np.float32],
    model: Model,
) -> list[Prediction]:
    """Return a prediction for each row of (N, 5), (N, 5), (N, h, w) and (N,).

    Raises ModelError, naming the image, for a value that is not finite.
    """
    for index, (image_logits, image_saliency) in enumerate(zip(logits, saliency, strict=True)):
        if not (np.isfinite(image_logits).all() and np.isfinite(image_saliency).all()):
            raise ModelError(
                f"model {model.model_id}: image {index} of {len(logits)} yields a value that is not finite"
            )
    rows = zip(probabilities, saliency, evidence.tolist(), strict=True)
    scale = model.evidence_scale
    return [Prediction(one.copy(), other.copy(), Evidence(most, scale)) for one, other, most in rows]


def predictions_from_class_maps(class_maps: ClassMaps, model: Model) -> list[Prediction]:
    """Return a prediction for each image of the class maps. Raises ModelError as `to_predictions` does."""
    explained = explain(class_maps, model.thresholds, model.explained_outputs)
    predictions = to_predictions(class_maps.logits, *explained, model)
    if model.familiarity is None or class_maps.projections is None:
        return predictions
    return with_unfamiliarity(predictions, [class_maps.projections], model.familiarity)


def with_unfamiliarity(
    predictions: Sequence[Prediction], projections: Sequence[NDArray[np.float32]], familiarity: Familiarity
) -> list[Prediction]:
    """Return N predictions with their unfamiliarity. projections: (N, K) by each network."""
    distances = familiarity.unfamiliarity(projections).tolist()
    return [replace(one, unfamiliarity=distance) for one, distance in zip(predictions, distances, strict=True)]


def _as_fractions(image: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float32]:
    return (image / np.float32(255) if image.dtype == np.uint8 else image).astype(np.float32, copy=False)
