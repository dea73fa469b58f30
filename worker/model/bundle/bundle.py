"""A model bundle: a folder with `model.json` and `weights.safetensors`, checked whole before anyone may use it."""

import hashlib
import json
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from worker.core.errors import ModelError
from worker.imaging.recipe import Recipe
from worker.model.architecture import DENSENET121, HEAD, feature_layers, last_feature_layer
from worker.model.bundle.activation_ranges import MAX_RANGES_BYTES, RANGES_FILE, parse_activation_ranges
from worker.model.bundle.fit_record import FitRecord
from worker.model.bundle.weights import parse_weights
from worker.model.ordinal import ALL_OUTPUTS, DEFAULT_THRESHOLDS, ExplainedOutputs, Thresholds

DEFAULT_BUNDLE = "densenet121-aptos-320"
MANIFEST_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"

_SHIPPED = Path(__file__).parents[1] / "pretrained"
MAX_MANIFEST_BYTES = 64 * 1024
_MAX_WEIGHTS_BYTES = 512 * 1024 * 1024

Threshold = Annotated[float, Field(gt=0, lt=1)]


class Manifest(BaseModel):
    """What `model.json` says: all that is needed to use the weights as they were trained."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: Literal[1] = 1
    name: str = Field(pattern=NAME_PATTERN)
    architecture: str = Field(default=DENSENET121, pattern=r"^[a-z][a-z0-9_]{1,39}$")
    """The backbone, by its name in keras.applications in small letters."""
    recipe: Recipe
    target_layer: str = Field(
        default_factory=lambda known: last_feature_layer(known.get("architecture", DENSENET121)), max_length=200
    )
    """The feature map that Grad-CAM explains; at the last one it costs no backward pass."""
    thresholds: tuple[Threshold, Threshold, Threshold, Threshold, Threshold] = DEFAULT_THRESHOLDS
    """One per cumulative output; an output passes when it is above its own."""
    temperature: float = Field(default=1.0, ge=0.01, le=100)
    """What the logits are divided by before the sigmoid (Guo et al. 2017, arXiv 1706.04599)."""
    explained_outputs: ExplainedOutputs = ALL_OUTPUTS
    """(1, 2): why an eye is referred, and where it is not, what speaks for any retinopathy."""
    training_data: str = Field(max_length=2000)
    licence: str = Field(max_length=2000)
    notes: str = Field(default="", max_length=4000)
    fit: FitRecord | None = None
    """How the weights came to be, where `fundus model fit` made them."""
    weights_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    ranges_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Of the file that an engine in 8 bits needs beside the weights, where there is one."""

    @model_validator(mode="after")
    def _target_layer_exists(self) -> Self:
        if self.architecture == "ensemble":
            raise ValueError("an ensemble is no backbone")
        if self.architecture == DENSENET121 and self.target_layer not in feature_layers():
            raise ValueError(f"target_layer {self.target_layer!r} is no feature map of {self.architecture}")
        return self

    @property
    def is_closed_form(self) -> bool:
        """Whether the maps are those of the last feature map, and so known without a backward pass."""
        return self.target_layer == last_feature_layer(self.architecture)

    @property
    def model_id(self) -> str:
        """The first 16 hexadecimal digits of a SHA-256 over the canonical content, the weights' SHA-256 included."""
        # Ids outlive versions: what an earlier one did not know does not count while it changes nothing.
        # ActivationRanges are an engine's aid; its precision makes no other model, either.
        content = self.model_dump(mode="json", exclude_none=True, exclude={"ranges_sha256"})
        if self.temperature == 1:
            del content["temperature"]
        if self.explained_outputs == ALL_OUTPUTS:
            del content["explained_outputs"]
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Bundle:
    """A checked bundle: its manifest, and its weights by name (`conv1_conv/kernel`), float32, read-only."""

    manifest: Manifest
    weights: MappingProxyType[str, NDArray[np.float32]]
    activation_ranges: MappingProxyType[str, NDArray[np.float32]] | None = None
    """Of the maps by layer, for an engine in 8 bits; None where they were not measured."""

    @cached_property
    def model_id(self) -> str:
        """See `Manifest.model_id`."""
        return self.manifest.model_id

    @cached_property
    def scaled_weights(self) -> MappingProxyType[str, NDArray[np.float32]]:
        """The weights that an engine runs: the temperature is in the head, whose logits are linear in it."""
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
        """None: one network sees one picture."""
        return ()

    @property
    def thresholds(self) -> Thresholds:
        """One per cumulative output."""
        return self.manifest.thresholds

    @property
    def explained_outputs(self) -> tuple[int, int]:
        """The lowest and the highest output that a map explains."""
        return self.manifest.explained_outputs


def list_pretrained() -> list[str]:
    """Names of the bundles that come with the package."""
    return sorted(path.parent.name for path in _SHIPPED.glob(f"*/{MANIFEST_FILE}"))


def load_bundle(ref: str | Path) -> Bundle:
    """Read and check a bundle: one that is shipped, by its name, or a folder, by its path (`./name` forces a path).

    Raises ModelError, naming the file, for a missing or damaged part, a wrong checksum, weights of other names or
    shapes than the architecture's, or weights that are not finite.
    """
    folder = find_bundle(ref)
    manifest = read_manifest(folder)
    bundle = load_weights(folder / WEIGHTS_FILE, manifest)
    if manifest.ranges_sha256 is None:
        return bundle
    path = folder / RANGES_FILE
    data = _read_promised(path, MAX_RANGES_BYTES, manifest.ranges_sha256)
    return replace(bundle, activation_ranges=MappingProxyType(parse_activation_ranges(data, source=str(path))))


def load_weights(path: Path, manifest: Manifest) -> Bundle:
    """The bundle of a manifest and its file of weights, without ranges. Raises ModelError as `load_bundle`."""
    data = _read_promised(path, _MAX_WEIGHTS_BYTES, manifest.weights_sha256)
    weights = parse_weights(data, source=str(path), architecture=manifest.architecture)
    return Bundle(manifest, MappingProxyType(weights))


def _read_promised(path: Path, limit_bytes: int, promised: str) -> bytes:
    data = read_bounded(path, limit_bytes)
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != promised:
        raise ModelError(f"{path}: SHA-256 is {sha256}, {MANIFEST_FILE} promises {promised}")
    return data


def find_bundle(ref: str | Path) -> Path:
    """The folder that a shipped name or a path stands for. Raises ModelError when there is none."""
    if isinstance(ref, str) and re.fullmatch(NAME_PATTERN, ref) and (_SHIPPED / ref).is_dir():
        return _SHIPPED / ref
    folder = Path(ref)
    if not folder.is_dir():
        raise ModelError(f"no model bundle {str(ref)!r}: neither a folder nor shipped ({', '.join(list_pretrained())})")
    return folder


def read_manifest(folder: Path) -> Manifest:
    """Read and check `model.json` alone. Raises ModelError naming the file and the field."""
    path = folder / MANIFEST_FILE
    try:
        return Manifest.model_validate_json(read_bounded(path, MAX_MANIFEST_BYTES))
    except ValidationError as error:
        raise ModelError(f"{path}: {describe_validation_error(error)}") from error


def describe_validation_error(error: ValidationError) -> str:
    """The first field that is wrong and why, in one line."""
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'content'}: {first['msg']}"


def read_bounded(path: Path, limit_bytes: int) -> bytes:
    """A file's content. Raises ModelError when it cannot be read or has more bytes than that."""
    try:
        with path.open("rb") as file:
            data = file.read(limit_bytes + 1)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    if len(data) > limit_bytes:
        raise ModelError(f"{path}: more than {limit_bytes} bytes")
    return data
