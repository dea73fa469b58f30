"""Grade and explain with several networks: logits averaged, and the maps with the same weights."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from worker.core.predictions import ModelInput, Prediction
from worker.model.bundle.ensemble import Ensemble, View
from worker.model.class_activation_maps import ClassMaps, sigmoid, upsample_bilinear
from worker.model.engines.batch_arrays import predictions_from_class_maps
from worker.model.engines.protocol import Engine

Picture = NDArray[np.uint8] | NDArray[np.float32]


class EnsembleEngine:
    """An `Engine` of several members' engines, of one library or of both."""

    def __init__(self, ensemble: Ensemble, members: Sequence[Engine]) -> None:
        self.bundle = ensemble
        self.device = members[0].device
        self._members = tuple(members)
        recipes = ensemble.manifest.recipes
        self._places = [recipes.index(network.recipe) for network in ensemble.networks]
        shares = [member.weight / len(member.views) for member in ensemble.manifest.members for _ in member.views]
        self._shares = np.array(shares, np.float32) / np.float32(sum(shares))

    def warm_up(self, batch_size: int) -> None:
        """See `Engine.warm_up`."""
        for member in self._members:
            member.warm_up(batch_size)

    def predict(self, enhanced: Sequence[ModelInput]) -> list[Prediction]:
        """See `Engine.predict`. An image is a tuple, one picture for each recipe, or bare where there is one recipe."""
        if not enhanced:
            return []
        looks = self._look(enhanced)
        average = _average(looks, self._shares, self.bundle.manifest.temperature)
        predictions = predictions_from_class_maps(average, self.bundle)
        doubts = measure_disagreement([look.logits for look in looks], self._shares)
        return [replace(one, disagreement=float(doubt)) for one, doubt in zip(predictions, doubts, strict=True)]

    def class_maps(self, enhanced: Sequence[ModelInput]) -> ClassMaps:
        """Averaged logits and signed maps of all outputs, of N >= 1 images."""
        return _average(self._look(enhanced), self._shares, self.bundle.manifest.temperature)

    def _look(self, images: Sequence[ModelInput]) -> list[ClassMaps]:
        """What each member finds in each of its views, the maps turned back."""
        enhanced = [one if isinstance(one, tuple) else (one,) for one in images]
        recipes = len(self.bundle.manifest.recipes)
        for index, pictures in enumerate(enhanced):
            if len(pictures) != recipes:
                raise ValueError(
                    f"image {index} is {len(pictures)} pictures, one for each of {recipes} recipes is needed"
                )
        looks = []
        for member, engine, place in zip(self.bundle.manifest.members, self._members, self._places, strict=True):
            for view in member.views:
                found = engine.class_maps([apply_view(pictures[place], view) for pictures in enhanced])
                looks.append(ClassMaps(found.logits, invert_view(found.maps, view)))
        return looks


def apply_view(picture: Picture, view: View) -> Picture:
    """A picture (S, S, 3) as a view sees it."""
    mirrored: Picture = picture[:, ::-1] if _is_mirrored(view) else picture
    turned: Picture = np.rot90(mirrored, _quarters(view))
    return turned


def invert_view(maps: NDArray[np.float32], view: View) -> NDArray[np.float32]:
    """Maps (N, 5, h, w) of a turned picture, as they lie on the picture itself."""
    upright = np.rot90(maps, -_quarters(view), axes=(2, 3))
    return upright[..., ::-1] if _is_mirrored(view) else upright


def measure_disagreement(logits: Sequence[NDArray[np.float32]], shares: NDArray[np.float32]) -> NDArray[np.float32]:
    """Standard deviation, (N,), of the members' expected grades: the sum of outputs 1 to 4, from 0 to 4.

    logits: (N, 5) of each look. shares: of each look, sum 1.
    """
    expected = np.stack([sigmoid(one)[:, 1:].sum(axis=1) for one in logits])
    mean = shares @ expected
    return np.asarray(np.sqrt(shares @ (expected - mean) ** 2), np.float32)


def _average(looks: Sequence[ClassMaps], shares: NDArray[np.float32], temperature: float) -> ClassMaps:
    height, width = (max(look.maps.shape[axis] for look in looks) for axis in (2, 3))
    factors = shares / np.float32(temperature)
    logits = sum(factor * look.logits for factor, look in zip(factors, looks, strict=True))
    maps = sum(
        factor * upsample_bilinear(look.maps, height, width) for factor, look in zip(factors, looks, strict=True)
    )
    return ClassMaps(np.asarray(logits), np.asarray(maps))


def _is_mirrored(view: View) -> bool:
    return view.startswith("mirrored")


def _quarters(view: View) -> int:
    angle = view.rpartition("_")[2]
    return int(angle) // 90 if angle.isdecimal() else 0
