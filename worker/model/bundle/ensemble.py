"""An ensemble: a bundle of several networks. `model.json` has the members' manifests; each has a file of weights.

A member may be given rotated and mirrored views of the picture, which is test-time augmentation.
"""

import json
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from worker.core.errors import ModelError
from worker.imaging.recipe import Recipe
from worker.model.architecture import last_feature_layer
from worker.model.bundle.bundle import (
    LATER_FIELDS,
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    NAME_PATTERN,
    Bundle,
    EvidenceScale,
    FiveThresholds,
    Manifest,
    Temperature,
    compute_model_id,
    describe_validation_error,
    find_bundle,
    load_bundle,
    load_familiarity,
    load_weights,
    read_bounded,
    read_manifest,
    read_verified,
)
from worker.model.bundle.familiarity import Familiarity
from worker.model.bundle.fit_record import LATER_FIT_FIELDS
from worker.model.bundle.golden import GOLDEN_FILE, MAX_GOLDEN_BYTES, GoldenInputs, parse_golden_inputs
from worker.model.ordinal import ALL_OUTPUTS, DEFAULT_THRESHOLDS, ExplainedOutputs, Thresholds

MAX_MEMBERS = 8
_FIELD_SETTINGS = ("crop", "lit_floor", "lit_fraction", "lit_share")
"""The settings that select the part of the photograph that a picture, and therefore a map, shows."""


class View(StrEnum):
    """A transformation of the picture: mirrored left to right or not, then rotated counter-clockwise by an angle."""

    AS_IS = "as_is"
    TURNED_90 = "turned_90"
    TURNED_180 = "turned_180"
    TURNED_270 = "turned_270"
    MIRRORED = "mirrored"
    MIRRORED_90 = "mirrored_90"
    MIRRORED_180 = "mirrored_180"
    MIRRORED_270 = "mirrored_270"


class Member(BaseModel):
    """A network, its weight in the average, which its views share equally, and its views of the picture."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    manifest: Manifest
    weight: float = Field(default=1.0, gt=0, le=1000)
    views: tuple[View, ...] = Field(default=(View.AS_IS,), min_length=1)

    @model_validator(mode="after")
    def _can_be_averaged(self) -> Self:
        if len(set(self.views)) < len(self.views):
            raise ValueError(f"a view of {self.manifest.name} is listed twice")
        if not self.manifest.is_closed_form:
            raise ValueError(
                f"{self.manifest.name} is explained at {self.manifest.target_layer!r}; the maps of an ensemble can only"
                f" be averaged at the last feature map, {last_feature_layer(self.manifest.architecture)!r}"
            )
        return self


class EnsembleManifest(BaseModel):
    """The content of an ensemble's `model.json`; the members' own thresholds and explained outputs are not used."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: Literal[1] = 1
    name: str = Field(pattern=NAME_PATTERN)
    architecture: Literal["ensemble"] = "ensemble"
    members: tuple[Member, ...] = Field(min_length=1, max_length=MAX_MEMBERS)
    thresholds: FiveThresholds = DEFAULT_THRESHOLDS
    """As those of a single network."""
    temperature: Temperature = 1.0
    """The divisor of the averaged logits before the sigmoid."""
    explained_outputs: ExplainedOutputs = ALL_OUTPUTS
    """As those of a single network."""
    evidence_scale: EvidenceScale | None = None
    """As that of a single network; the members' own scales are not used."""
    notes: str = Field(default="", max_length=4000)
    threshold_rule: str | None = Field(default=None, max_length=400)
    """As that of a single network."""
    familiarity_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the feature spaces of all members; None without such a file."""
    golden_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """As that of a single network; the members' own golden inputs are not used."""

    @model_validator(mode="after")
    def _members_agree_on_the_field(self) -> Self:
        if len(self.members) == 1 and len(self.members[0].views) == 1:
            raise ValueError("one network with one view is not an ensemble")
        first = self.members[0].manifest
        for member in self.members[1:]:
            for key in _FIELD_SETTINGS:
                one, other = getattr(first.recipe, key), getattr(member.manifest.recipe, key)
                if one != other:
                    raise ValueError(
                        f"{first.name} has the {key} {one}, {member.manifest.name} {other}: their maps would not show"
                        " the same part of the photograph"
                    )
        return self

    @property
    def is_closed_form(self) -> bool:
        """True: every member must be explained at its last feature map."""
        return True

    @property
    def model_id(self) -> str:
        """As that of a single network; the members are part of the content."""
        content = ledger_document(self)
        for member in content["members"]:
            del member["manifest"]["ranges_sha256"]
        # Ids must not change between versions, as those of single networks.
        for manifest in (content, *(member["manifest"] for member in content["members"])):
            if manifest["explained_outputs"] == list(ALL_OUTPUTS):
                del manifest["explained_outputs"]
        return compute_model_id(content)

    @property
    def recipe(self) -> Recipe:
        """The recipe of the first member, whose picture is displayed."""
        return self.members[0].manifest.recipe

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """The members' distinct recipes, in the order of the members."""
        return tuple(dict.fromkeys(member.manifest.recipe for member in self.members))

    @property
    def weights_files(self) -> tuple[str, ...]:
        """The name of each member's file of weights."""
        return tuple(f"weights-{number}.safetensors" for number in range(len(self.members)))

    @property
    def split_files(self) -> tuple[str, ...]:
        """The name of each member's split; only a member that `fundus model fit` made has this file."""
        return tuple(f"split-{number}.csv" for number in range(len(self.members)))


@dataclass(frozen=True)
class Ensemble:
    """A validated ensemble; `networks` are the members' bundles, in order.

    familiarity: the members' feature spaces and their scale; None if they were not learned.
    """

    manifest: EnsembleManifest
    networks: tuple[Bundle, ...]
    familiarity: Familiarity | None = None

    @cached_property
    def model_id(self) -> str:
        """See `EnsembleManifest.model_id`."""
        return self.manifest.model_id

    @property
    def name(self) -> str:
        """The manifest's name, for people."""
        return self.manifest.name

    @property
    def recipe(self) -> Recipe:
        """The recipe of the first member."""
        return self.manifest.recipe

    @property
    def extra_recipes(self) -> tuple[Recipe, ...]:
        """The members' other distinct recipes."""
        return self.manifest.recipes[1:]

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


Model = Bundle | Ensemble
AnyManifest = Manifest | EnsembleManifest


def load_model(ref: str | Path) -> Model:
    """Read and validate a bundle of one network or of several. Raises ModelError as `load_bundle` does."""
    folder = find_bundle(ref)
    manifest = read_any_manifest(folder)
    if isinstance(manifest, Manifest):
        return load_bundle(ref)
    files = zip(manifest.members, manifest.weights_files, strict=True)
    networks = tuple(load_weights(folder / name, member.manifest) for member, name in files)
    familiarity = load_familiarity(folder, manifest.familiarity_sha256, networks)
    if familiarity is not None:
        spaces = zip(networks, familiarity.spaces, strict=True)
        networks = tuple(replace(network, feature_space=space) for network, space in spaces)
    return Ensemble(manifest, networks, familiarity)


def load_golden_inputs(ref: str | Path) -> GoldenInputs | None:
    """Read and validate the golden inputs of a bundle; None if it has none. Raises ModelError as `load_model` does."""
    folder = find_bundle(ref)
    manifest = read_any_manifest(folder)
    if manifest.golden_sha256 is None:
        return None
    path = folder / GOLDEN_FILE
    data = read_verified(path, MAX_GOLDEN_BYTES, manifest.golden_sha256)
    sizes = [recipe.input_size_px for recipe in manifest.recipes]
    return parse_golden_inputs(data, source=str(path), input_sizes_px=sizes)


def read_any_manifest(folder: Path) -> AnyManifest:
    """Read and validate `model.json` alone, of either kind. Raises ModelError, naming the file and the field."""
    path = folder / MANIFEST_FILE
    try:
        document = json.loads(read_bounded(path, MAX_MANIFEST_BYTES))
    except (ValueError, RecursionError):
        return read_manifest(folder)  # Raises the error that names the fault.
    if not _is_ensemble(document):
        return read_manifest(folder)
    try:
        return EnsembleManifest.model_validate(document)
    except ValidationError as error:
        raise ModelError(f"{path}: {describe_validation_error(error)}") from error


def ledger_document(manifest: AnyManifest) -> dict[str, Any]:
    """Return the JSON of a manifest for the ledger, without LATER_FIELDS: earlier versions may run next to this one."""
    document = manifest.model_dump(mode="json")
    for part in (document, *(member["manifest"] for member in document.get("members", []))):
        for name in LATER_FIELDS:
            del part[name]
        for name in LATER_FIT_FIELDS if part.get("fit") else ():
            del part["fit"][name]
    return document


def parse_manifest(document: object) -> AnyManifest:
    """Return a manifest of either kind from the ledger's JSON. Raises pydantic's ValidationError."""
    return (EnsembleManifest if _is_ensemble(document) else Manifest).model_validate(document)


def _is_ensemble(document: object) -> bool:
    return isinstance(document, dict) and document.get("architecture") == "ensemble"
