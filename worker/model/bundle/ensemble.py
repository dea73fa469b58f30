"""A bundle of several networks: `model.json` names the members, beside it lie the weights of each.

A member may look at the picture turned or mirrored, which is test-time augmentation.
"""

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from worker.core.errors import ModelError
from worker.imaging.recipe import Recipe
from worker.model.architecture import last_feature_layer
from worker.model.bundle.bundle import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    NAME_PATTERN,
    Bundle,
    Manifest,
    Threshold,
    describe_validation_error,
    find_bundle,
    load_bundle,
    load_weights,
    read_bounded,
    read_manifest,
)
from worker.model.ordinal import ALL_OUTPUTS, DEFAULT_THRESHOLDS, ExplainedOutputs, Thresholds

MAX_MEMBERS = 8
_FIELD = ("crop", "lit_floor", "lit_fraction", "lit_share")
"""What decides which part of the photograph a picture, and so a map, stands for."""


class View(StrEnum):
    """How a member sees the picture: mirrored left to right or not, then turned counter-clockwise by an angle."""

    AS_IS = "as_is"
    TURNED_90 = "turned_90"
    TURNED_180 = "turned_180"
    TURNED_270 = "turned_270"
    MIRRORED = "mirrored"
    MIRRORED_90 = "mirrored_90"
    MIRRORED_180 = "mirrored_180"
    MIRRORED_270 = "mirrored_270"


class Member(BaseModel):
    """A network, its share of the average, which its views divide evenly, and how it sees the picture."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    manifest: Manifest
    weight: float = Field(default=1.0, gt=0, le=1000)
    views: tuple[View, ...] = Field(default=(View.AS_IS,), min_length=1)

    @model_validator(mode="after")
    def _can_be_averaged(self) -> Self:
        if len(set(self.views)) < len(self.views):
            raise ValueError(f"a view of {self.manifest.name} is named twice")
        if not self.manifest.is_closed_form:
            raise ValueError(
                f"{self.manifest.name} is explained at {self.manifest.target_layer!r}; only maps of the last feature"
                f" map, {last_feature_layer(self.manifest.architecture)!r}, add up to that of the averaged logit"
            )
        return self


class EnsembleManifest(BaseModel):
    """What `model.json` of an ensemble says; the members' own thresholds and explained outputs are not used."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: Literal[1] = 1
    name: str = Field(pattern=NAME_PATTERN)
    architecture: Literal["ensemble"] = "ensemble"
    members: tuple[Member, ...] = Field(min_length=1, max_length=MAX_MEMBERS)
    thresholds: tuple[Threshold, Threshold, Threshold, Threshold, Threshold] = DEFAULT_THRESHOLDS
    """One per cumulative output; an output passes when it is above its own."""
    temperature: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    """What the averaged logits are divided by before the sigmoid."""
    explained_outputs: ExplainedOutputs = ALL_OUTPUTS
    """Of the averaged logits, as those of a single network."""
    notes: str = Field(default="", max_length=4000)

    @model_validator(mode="after")
    def _members_agree_on_the_field(self) -> Self:
        if len(self.members) == 1 and len(self.members[0].views) == 1:
            raise ValueError("one network that looks once is no ensemble")
        first = self.members[0].manifest
        for member in self.members[1:]:
            for key in _FIELD:
                one, other = getattr(first.recipe, key), getattr(member.manifest.recipe, key)
                if one != other:
                    raise ValueError(
                        f"{first.name} has the {key} {one}, {member.manifest.name} {other}: their maps do not show the"
                        " same part of the photograph"
                    )
        return self

    @property
    def model_id(self) -> str:
        """As that of a single network; what the members are is part of the content."""
        content = self.model_dump(mode="json")
        for member in content["members"]:
            del member["manifest"]["ranges_sha256"]
        for explaining in (content, *(member["manifest"] for member in content["members"])):
            if explaining["explained_outputs"] == list(ALL_OUTPUTS):
                # Ids outlive versions, as those of single networks do.
                del explaining["explained_outputs"]
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @property
    def recipe(self) -> Recipe:
        """That of the first member, whose picture is shown to people."""
        return self.members[0].manifest.recipe

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """Each that differs, in the order of the members."""
        return tuple(dict.fromkeys(member.manifest.recipe for member in self.members))

    @property
    def weights_files(self) -> tuple[str, ...]:
        """One for each member."""
        return tuple(f"weights-{number}.safetensors" for number in range(len(self.members)))

    @property
    def split_files(self) -> tuple[str, ...]:
        """One for each member; there only for those that `fundus model fit` made."""
        return tuple(f"split-{number}.csv" for number in range(len(self.members)))


@dataclass(frozen=True)
class Ensemble:
    """A checked ensemble; `networks` are the members' bundles, in their order."""

    manifest: EnsembleManifest
    networks: tuple[Bundle, ...]

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
        """That of the first member."""
        return self.manifest.recipe

    @property
    def extra_recipes(self) -> tuple[Recipe, ...]:
        """Those of the other members that differ."""
        return self.manifest.recipes[1:]

    @property
    def thresholds(self) -> Thresholds:
        """One per cumulative output."""
        return self.manifest.thresholds

    @property
    def explained_outputs(self) -> tuple[int, int]:
        """The lowest and the highest output that a map explains."""
        return self.manifest.explained_outputs


Model = Bundle | Ensemble
AnyManifest = Manifest | EnsembleManifest


def load_model(ref: str | Path) -> Model:
    """Read and check a bundle of one network or of several, as `load_bundle` does."""
    folder = find_bundle(ref)
    manifest = read_any_manifest(folder)
    if isinstance(manifest, Manifest):
        return load_bundle(ref)
    files = zip(manifest.members, manifest.weights_files, strict=True)
    return Ensemble(manifest, tuple(load_weights(folder / name, member.manifest) for member, name in files))


def read_any_manifest(folder: Path) -> AnyManifest:
    """Read and check `model.json` alone, of either kind. Raises ModelError naming the file and the field."""
    path = folder / MANIFEST_FILE
    try:
        document = json.loads(read_bounded(path, MAX_MANIFEST_BYTES))
    except (ValueError, RecursionError):
        return read_manifest(folder)  # It says what is wrong.
    if not _is_ensemble(document):
        return read_manifest(folder)
    try:
        return EnsembleManifest.model_validate(document)
    except ValidationError as error:
        raise ModelError(f"{path}: {describe_validation_error(error)}") from error


def parse_manifest(document: object) -> AnyManifest:
    """A manifest of either kind, as the ledger keeps it. Raises pydantic's ValidationError."""
    return (EnsembleManifest if _is_ensemble(document) else Manifest).model_validate(document)


def _is_ensemble(document: object) -> bool:
    return isinstance(document, dict) and document.get("architecture") == "ensemble"
