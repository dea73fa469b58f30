"""Move the maps of a bundle onto lesions, from photographs with lesion masks, and write the changed bundle."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worker.core.errors import UsageError
from worker.core.settings import Settings
from worker.evaluation.saliency.lesion_cells import measure_cells
from worker.evaluation.saliency.lesion_masks import enhance_for, read_annotated
from worker.model.architecture import HEAD
from worker.model.bundle.bundle import WEIGHTS_FILE, Bundle
from worker.model.bundle.ensemble import AnyManifest, Model, View
from worker.model.bundle.fit_record import SPLIT_FILE
from worker.model.bundle.writer import write_bundle, write_ensemble
from worker.model.class_activation_maps import upsample_bilinear
from worker.model.engines.features import FeatureReader
from worker.model_card.feature_learning import BATCH, read_pooled_features
from worker.training.lineage import Lineage
from worker.training.map_localisation import LesionMaps, Localisation, localise_maps

Array = NDArray[np.float32]

KERNEL = f"{HEAD}/kernel"
MIN_MASKS = 12
"""Least number of photographs with masks: two in each fold."""


@dataclass(frozen=True, slots=True)
class LocalisedModel:
    """Changed weights of each network, and what was measured for each explained output, by its number."""

    weights: list[dict[str, Array]]
    outputs: dict[int, Localisation]
    masks: int


def localise_model(
    model: Model,
    lineage: Lineage,
    manifest: Path,
    lesions: Path,
    settings: Settings,
    *,
    max_drift: float,
    limit: int,
    on_warning: Callable[[str], None],
    on_progress: Callable[[], object],
) -> LocalisedModel:
    """Change the heads of a model so that the maps of its explained outputs have more energy on lesions.

    max_drift: as for `localise_maps`. Raises as `read_pooled_features` and `read_annotated` do, and UsageError for a
    model with turned or mirrored views, or too few photographs.
    """
    networks = (model,) if isinstance(model, Bundle) else model.networks
    factors = _get_factors(model)
    maps = _read_lesion_maps(model, factors, lesions, on_warning, on_progress)
    if len(maps.features) < MIN_MASKS:
        raise UsageError(f"{lesions} has {len(maps.features)} photographs with masks; {MIN_MASKS} are needed")
    training, _ = read_pooled_features(
        model, lineage, manifest, settings, limit=limit, on_warning=on_warning, on_progress=on_progress
    )
    if not training:
        raise UsageError(f"{manifest} has no photograph that {model.name} was trained on")
    pooled = np.concatenate([factor * part for factor, part in zip(factors, training, strict=True)], axis=1)
    kernels = np.concatenate([network.weights[KERNEL] for network in networks]).copy()
    lowest, highest = model.explained_outputs
    found = {}
    for output in range(lowest, highest + 1):
        found[output] = localise_maps(kernels[:, output], maps, pooled, max_drift=max_drift)
        kernels[:, output] = found[output].kernel
    ends = np.cumsum([len(network.weights[KERNEL]) for network in networks])[:-1]
    changed = zip(networks, np.split(kernels, ends), strict=True)
    return LocalisedModel(
        [{**network.weights, KERNEL: kernel} for network, kernel in changed], found, len(maps.features)
    )


def write_localised(model: Model, source: Path, folder: Path, name: str, weights: Sequence[dict[str, Array]]) -> None:
    """Write a model with changed heads into a new folder; source: the folder of the original. Raises as `write_bundle`.

    Feature spaces, activation ranges and golden inputs are left out.
    """
    if isinstance(model, Bundle):
        split = {SPLIT_FILE: (source / SPLIT_FILE).read_bytes()} if (source / SPLIT_FILE).is_file() else {}
        draft = model.manifest.model_copy(update={"name": name})
        write_bundle(folder, draft, weights[0], float16_kernels=_is_float16(model), extra_files=split)
        return
    with tempfile.TemporaryDirectory(prefix="fundus-") as temporary:
        members, parts = [], []
        numbered = zip(model.manifest.members, model.networks, weights, model.manifest.split_files, strict=True)
        for number, (member, network, changed, split_name) in enumerate(numbered):
            part = Path(temporary) / str(number)
            written = write_bundle(part, member.manifest, changed, float16_kernels=_is_float16(network))
            members.append(member.model_copy(update={"manifest": written}))
            parts.append((part / WEIGHTS_FILE, source / split_name))
        update = {"name": name, "members": tuple(members), "familiarity_sha256": None, "golden_sha256": None}
        write_ensemble(folder, model.manifest.model_copy(update=update), parts)


def describe(manifest: AnyManifest, localised: LocalisedModel) -> str:
    """Return one line for each output: its energy on lesions before and after, and its drift."""
    rows = [
        f"output {output}: energy on lesions {one.before:.3f} -> {one.held_out:.3f} on photographs that were left out"
        f" ({one.after:.3f} on all), drift of the logits {one.drift:.1%}"
        for output, one in localised.outputs.items()
    ]
    return "\n".join([f"{manifest.name}, {localised.masks} photographs with masks", *rows])


def _get_factors(model: Model) -> list[np.float32]:
    """Return the factor of each network's logits in the model's: its share divided by the temperatures."""
    if isinstance(model, Bundle):
        return [np.float32(1 / model.manifest.temperature)]
    members = model.manifest.members
    if any(member.views != (View.AS_IS,) for member in members):
        raise UsageError(f"{model.name} has turned or mirrored views, whose maps cannot be moved onto lesions")
    total = sum(member.weight for member in members) * model.manifest.temperature
    return [np.float32(member.weight / (total * member.manifest.temperature)) for member in members]


def _read_lesion_maps(
    model: Model,
    factors: Sequence[np.float32],
    lesions: Path,
    on_warning: Callable[[str], None],
    on_progress: Callable[[], object],
) -> LesionMaps:
    reader = FeatureReader(model)
    features, areas = [], []
    photographs = read_annotated(lesions, model, on_warning)
    while batch := list(islice(photographs, BATCH)):
        by_network = reader.read_maps([enhance_for(model, photograph) for photograph in batch])
        cells = max(maps.shape[2] for maps in by_network)
        joined = np.concatenate(
            [factor * upsample_bilinear(maps, cells, cells) for factor, maps in zip(factors, by_network, strict=True)],
            axis=1,
        )
        features.append(joined.reshape(len(batch), joined.shape[1], -1).transpose(0, 2, 1))
        for photograph in batch:
            areas.append(measure_cells(photograph, cells))
            on_progress()
    on_lesions, in_field = zip(*areas, strict=True)
    return LesionMaps(np.ascontiguousarray(np.concatenate(features)), np.stack(on_lesions), np.stack(in_field))


def _is_float16(network: Bundle) -> bool:
    """Whether all kernels have values that float16 represents, as those of a bundle that stores float16 do."""
    kernels = [array for name, array in network.weights.items() if name.endswith("/kernel")]
    return all(np.array_equal(array, array.astype(np.float16)) for array in kernels)
