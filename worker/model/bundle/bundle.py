"""A model bundle: a folder with `model.json` and `weights.safetensors`, which is validated before use."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from worker.core.errors import ModelError
from worker.imaging.recipe import Recipe
from worker.model.architecture import DENSENET121, HEAD, feature_layers, last_feature_layer
from worker.model.bundle.activation_ranges import MAX_RANGES_BYTES, RANGES_FILE, parse_activation_ranges
from worker.model.bundle.familiarity import (
    FAMILIARITY_FILE,
    MAX_FAMILIARITY_BYTES,
    Familiarity,
    FeatureSpace,
    parse_familiarity,
)
from worker.model.bundle.fit_record import LATER_FIT_FIELDS, FitRecord
from worker.model.bundle.weights import parse_weights
from worker.model.ordinal import ALL_OUTPUTS, DEFAULT_THRESHOLDS, ExplainedOutputs, Thresholds

DEFAULT_BUNDLE = "densenet121-efficientnetlite2-320"
MANIFEST_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"

_PRETRAINED = Path(__file__).parents[1] / "pretrained"
MAX_MANIFEST_BYTES = 64 * 1024
MAX_WEIGHTS_BYTES = 512 * 1024 * 1024

Threshold = Annotated[float, Field(gt=0, lt=1)]
FiveThresholds = tuple[Threshold, Threshold, Threshold, Threshold, Threshold]
Temperature = Annotated[float, Field(ge=0.01, le=100)]
EvidenceScale = Annotated[float, Field(ge=0.001, le=1e6)]

LATER_FIELDS = ("evidence_scale", "familiarity_sha256", "golden_sha256", "threshold_rule")
"""Fields of a manifest that earlier versions refuse, and that change neither probabilities nor grades."""


class Manifest(BaseModel):
    """The content of `model.json`: everything that is needed to use the weights as they were trained."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: Literal[1] = 1
    name: str = Field(pattern=NAME_PATTERN)
    architecture: str = Field(default=DENSENET121, pattern=r"^[a-z][a-z0-9_]{1,39}$")
    """The backbone's name in `worker.model.network.build.list_backbones`."""
    recipe: Recipe
    target_layer: str = Field(
        default_factory=lambda known: last_feature_layer(known.get("architecture", DENSENET121)), max_length=200
    )
    """The layer whose feature map Grad-CAM uses; the last one needs no backward pass."""
    thresholds: FiveThresholds = DEFAULT_THRESHOLDS
    """One for each cumulative output; an output is passed when its probability is above its threshold."""
    temperature: Temperature = 1.0
    """The divisor of the logits before the sigmoid (Guo et al. 2017, arXiv 1706.04599)."""
    explained_outputs: ExplainedOutputs = ALL_OUTPUTS
    """(1, 2): the evidence for referral, or the evidence for any retinopathy in an eye that is not referred."""
    evidence_scale: EvidenceScale | None = None
    """The evidence in logits that all maps show at full strength; None shows the maximum of each map in full."""
    training_data: str = Field(max_length=2000)
    licence: str = Field(max_length=2000)
    notes: str = Field(default="", max_length=4000)
    threshold_rule: str | None = Field(default=None, max_length=400)
    """How the thresholds were chosen, and on what, in words; None if the notes or the fit say it."""
    fit: FitRecord | None = None
    """How `fundus model fit` made the weights; None for other weights."""
    weights_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    ranges_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the activation ranges, which an INT8 engine needs; None without such a file."""
    familiarity_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the feature space; None without such a file."""
    golden_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the golden inputs, by which engines test themselves; None without such a file."""

    @model_validator(mode="after")
    def _target_layer_exists(self) -> Self:
        if self.architecture == "ensemble":
            raise ValueError("an ensemble is not a backbone")
        if self.architecture == DENSENET121 and self.target_layer not in feature_layers():
            raise ValueError(f"target_layer {self.target_layer!r} is not a feature map of {self.architecture}")
        return self

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """The recipe, as that of an ensemble of one."""
        return (self.recipe,)

    @property
    def is_closed_form(self) -> bool:
        """Whether Grad-CAM uses the last feature map, which needs no backward pass."""
        return self.target_layer == last_feature_layer(self.architecture)

    @property
    def model_id(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of the canonical content, with the weights' SHA-256."""
        # Ids must not change between versions: a field that an earlier version did not have counts only if it is set.
        # Ranges, feature space, golden inputs, rule and scale of the maps never count: they change neither
        # probabilities nor grades.
        later = dict.fromkeys(("ranges_sha256", *LATER_FIELDS), True)
        content = self.model_dump(mode="json", exclude_none=True, exclude={**later, "fit": set(LATER_FIT_FIELDS)})
        if self.temperature == 1:
            del content["temperature"]
        if self.explained_outputs == ALL_OUTPUTS:
            del content["explained_outputs"]
        return compute_model_id(content)


@dataclass(frozen=True)
class Bundle:
    """A validated bundle: its manifest and its weights by name (`conv1_conv/kernel`), float32, read-only."""

    manifest: Manifest
    weights: MappingProxyType[str, NDArray[np.float32]]
    activation_ranges: MappingProxyType[str, NDArray[np.float32]] | None = None
    """Activation ranges by layer, for an INT8 engine; None if they were not measured."""
    feature_space: FeatureSpace | None = None
    """The space in which distances from the training photographs are measured; None if it was not learned."""
    familiarity: Familiarity | None = None
    """The feature space with its scale, if this network is not a member of an ensemble."""

    @cached_property
    def model_id(self) -> str:
        """See `Manifest.model_id`."""
        return self.manifest.model_id

    @cached_property
    def scaled_weights(self) -> MappingProxyType[str, NDArray[np.float32]]:
        """The weights that an engine runs: the temperature is applied by dividing the head's weights by it."""
        temperature = np.float32(self.manifest.temperature)
        head = {name: self.weights[name] / temperature for name in (f"{HEAD}/kernel", f"{HEAD}/bias")}
        return MappingProxyType({**self.weights, **head})

    @property
    def name(self) -> str:
        """The manifest's name, for people."""
        return self.manifest.name

    @property
    def recipe(self) -> Recipe:
        """The preprocessing that the weights were trained with."""
        return self.manifest.recipe

    @property
    def extra_recipes(self) -> tuple[Recipe, ...]:
        """Recipes of further pictures of an image; a single network has none."""
        return ()

    @property
    def thresholds(self) -> Thresholds:
        """One for each cumulative output."""
        return self.manifest.thresholds

    @property
    def explained_outputs(self) -> tuple[int, int]:
        """The lowest and the highest output that a map may explain."""
        return self.manifest.explained_outputs

    @property
    def evidence_scale(self) -> float | None:
        """The evidence in logits that maps show at full strength; None if it was not measured."""
        return self.manifest.evidence_scale


def list_pretrained() -> list[str]:
    """Return the names of the bundles that are installed with the package."""
    return sorted(path.parent.name for path in _PRETRAINED.glob(f"*/{MANIFEST_FILE}"))


def load_bundle(ref: str | Path) -> Bundle:
    """Read and validate a bundle: a pretrained one by its name, or a folder by its path (`./name` is always a path).

    Raises ModelError, naming the file, for a missing or damaged file, a wrong checksum, weights whose names or shapes
    are not those of the architecture, and weights that are not finite.
    """
    folder = find_bundle(ref)
    manifest = read_manifest(folder)
    bundle = load_weights(folder / WEIGHTS_FILE, manifest)
    familiarity = load_familiarity(folder, manifest.familiarity_sha256, [bundle])
    if familiarity is not None:
        bundle = replace(bundle, familiarity=familiarity, feature_space=familiarity.spaces[0])
    if manifest.ranges_sha256 is None:
        return bundle
    path = folder / RANGES_FILE
    data = read_verified(path, MAX_RANGES_BYTES, manifest.ranges_sha256)
    return replace(bundle, activation_ranges=MappingProxyType(parse_activation_ranges(data, source=str(path))))


def load_familiarity(folder: Path, sha256: str | None, networks: Sequence[Bundle]) -> Familiarity | None:
    """Read the feature spaces of a model's networks; None without a SHA-256. Raises as `load_bundle` does."""
    if sha256 is None:
        return None
    path = folder / FAMILIARITY_FILE
    channels = [len(network.weights[f"{HEAD}/kernel"]) for network in networks]
    return parse_familiarity(read_verified(path, MAX_FAMILIARITY_BYTES, sha256), channels, source=str(path))


def load_weights(path: Path, manifest: Manifest) -> Bundle:
    """Read the weights of a manifest, without activation ranges. Raises ModelError as `load_bundle` does."""
    data = read_verified(path, MAX_WEIGHTS_BYTES, manifest.weights_sha256)
    weights = parse_weights(data, source=str(path), architecture=manifest.architecture)
    return Bundle(manifest, MappingProxyType(weights))


def find_bundle(ref: str | Path) -> Path:
    """Return the folder of a pretrained bundle's name or of a path. Raises ModelError if there is no such folder."""
    if isinstance(ref, str) and re.fullmatch(NAME_PATTERN, ref) and (_PRETRAINED / ref).is_dir():
        return _PRETRAINED / ref
    folder = Path(ref)
    if not folder.is_dir():
        pretrained = ", ".join(list_pretrained())
        raise ModelError(f"no model bundle {str(ref)!r}: it is neither a folder nor a pretrained bundle ({pretrained})")
    return folder


def read_manifest(folder: Path) -> Manifest:
    """Read and validate `model.json` alone. Raises ModelError, naming the file and the field."""
    path = folder / MANIFEST_FILE
    try:
        return Manifest.model_validate_json(read_bounded(path, MAX_MANIFEST_BYTES))
    except ValidationError as error:
        raise ModelError(f"{path}: {describe_validation_error(error)}") from error


def read_verified(path: Path, limit_bytes: int, sha256: str) -> bytes:
    """Return a file's content. Raises ModelError as `read_bounded` does, and for another SHA-256 than the given one."""
    data = read_bounded(path, limit_bytes)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ModelError(f"{path}: its SHA-256 is {found}, but {MANIFEST_FILE} has {sha256}")
    return data


def compute_model_id(content: dict[str, Any]) -> str:
    """Return the id of a model whose manifest has this JSON content."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def describe_validation_error(error: ValidationError) -> str:
    """Return the first invalid field and the reason, in one line."""
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'content'}: {first['msg']}"


def read_bounded(path: Path, limit_bytes: int) -> bytes:
    """Return a file's content. Raises ModelError if it cannot be read or has more than `limit_bytes` bytes."""
    try:
        with path.open("rb") as file:
            data = file.read(limit_bytes + 1)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    if len(data) > limit_bytes:
        raise ModelError(f"{path}: more than {limit_bytes} bytes")
    return data
