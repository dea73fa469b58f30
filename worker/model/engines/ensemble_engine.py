"""Grade and explain with an ensemble: average the logits of its networks, and their class maps, by weight."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from worker.core.predictions import ModelInput, Prediction
from worker.core.vocabulary import Precision
from worker.model.bundle.ensemble import Ensemble, View
from worker.model.class_activation_maps import ClassMaps, sigmoid, upsample_bilinear
from worker.model.engines.batch_io import predictions_from_class_maps, with_unfamiliarity
from worker.model.engines.protocol import Engine, EngineDescription

Picture = NDArray[np.uint8] | NDArray[np.float32]


class EnsembleEngine:
    """An `Engine` over the members' engines, which may use different libraries."""

    def __init__(self, ensemble: Ensemble, members: Sequence[Engine]) -> None:
        self.bundle = ensemble
        self.description = _describe([member.description for member in members])
        self._members = tuple(members)
        recipes = ensemble.manifest.recipes
        self._recipe_indices = [recipes.index(network.recipe) for network in ensemble.networks]
        shares = [member.weight / len(member.views) for member in ensemble.manifest.members for _ in member.views]
        self._shares = np.array(shares, np.float32) / np.float32(sum(shares))

    def warm_up(self, batch_size: int) -> None:
        """See `Engine.warm_up`."""
        for member in self._members:
            member.warm_up(batch_size)

    def predict(self, enhanced: Sequence[ModelInput]) -> list[Prediction]:
        """See `Engine.predict`. With one recipe, an image may be an array or a tuple of one."""
        if not enhanced:
            return []
        views = self._map_views(enhanced)
        average = _average(views, self._shares, self.bundle.manifest.temperature)
        predictions = predictions_from_class_maps(average, self.bundle)
        if self.bundle.familiarity is not None:
            predictions = with_unfamiliarity(predictions, self._first_projections(views), self.bundle.familiarity)
        disagreements = measure_disagreement([view.logits for view in views], self._shares)
        return [replace(one, disagreement=float(other)) for one, other in zip(predictions, disagreements, strict=True)]

    def _first_projections(self, views: Sequence[ClassMaps]) -> list[NDArray[np.float32]]:
        """Return the projections (N, K) of the first view of each member."""
        counts = [len(member.views) for member in self.bundle.manifest.members]
        firsts = [views[start] for start in np.cumsum([0, *counts[:-1]])]
        return [view.projections for view in firsts if view.projections is not None]

    def class_maps(self, enhanced: Sequence[ModelInput]) -> ClassMaps:
        """See `Engine.class_maps`. The class maps are averaged."""
        return _average(self._map_views(enhanced), self._shares, self.bundle.manifest.temperature)

    def _map_views(self, images: Sequence[ModelInput]) -> list[ClassMaps]:
        """Return the class maps of each view of each member, transformed back to the upright picture."""
        enhanced = [one if isinstance(one, tuple) else (one,) for one in images]
        recipes = len(self.bundle.manifest.recipes)
        for index, pictures in enumerate(enhanced):
            if len(pictures) != recipes:
                raise ValueError(
                    f"image {index} has {len(pictures)} pictures, one for each of {recipes} recipes is needed"
                )
        found = []
        for member, engine, recipe in zip(
            self.bundle.manifest.members, self._members, self._recipe_indices, strict=True
        ):
            for view in member.views:
                class_maps = engine.class_maps([apply_view(pictures[recipe], view) for pictures in enhanced])
                found.append(replace(class_maps, maps=invert_view(class_maps.maps, view)))
        return found


def apply_view(picture: Picture, view: View) -> Picture:
    """Return a view of a picture (S, S, 3)."""
    mirrored: Picture = picture[:, ::-1] if _is_mirrored(view) else picture
    turned: Picture = np.rot90(mirrored, _quarter_turns(view))
    return turned


def invert_view(maps: NDArray[np.float32], view: View) -> NDArray[np.float32]:
    """Transform maps (N, 5, h, w) of a view back to the upright picture."""
    upright = np.rot90(maps, -_quarter_turns(view), axes=(2, 3))
    return upright[..., ::-1] if _is_mirrored(view) else upright


def measure_disagreement(logits: Sequence[NDArray[np.float32]], shares: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the standard deviation (N,) of the expected grades, which are the sums of outputs 1 to 4, between views.

    logits: (N, 5) for each view of each member. shares: the weight of each view, sum 1.
    """
    expected = np.stack([sigmoid(one)[:, 1:].sum(axis=1) for one in logits])
    mean = shares @ expected
    return np.asarray(np.sqrt(shares @ (expected - mean) ** 2), np.float32)


def _describe(members: Sequence[EngineDescription]) -> EngineDescription:
    """Return all engines and devices, and the least exact precision."""
    return EngineDescription(
        engine="+".join(dict.fromkeys(member.engine for member in members)),
        precision=max((member.precision for member in members), key=tuple(Precision).index),
        device=", ".join(dict.fromkeys(member.device for member in members)),
        libraries={name: version for member in members for name, version in member.libraries.items()},
    )


def _average(views: Sequence[ClassMaps], shares: NDArray[np.float32], temperature: float) -> ClassMaps:
    """Return the weighted average, divided by the temperature, at the size of the largest map."""
    height, width = (max(view.maps.shape[axis] for view in views) for axis in (2, 3))
    factors = shares / np.float32(temperature)
    logits = sum(factor * view.logits for factor, view in zip(factors, views, strict=True))
    maps = sum(
        factor * upsample_bilinear(view.maps, height, width) for factor, view in zip(factors, views, strict=True)
    )
    return ClassMaps(np.asarray(logits), np.asarray(maps))


def _is_mirrored(view: View) -> bool:
    return view.startswith("mirrored")


def _quarter_turns(view: View) -> int:
    angle = view.rpartition("_")[2]
    return int(angle) // 90 if angle.isdecimal() else 0
