"""Trace which images the weights of a bundle were trained on, including earlier fits."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from worker.core.errors import ModelError
from worker.model.architecture import HEAD
from worker.model.bundle.bundle import Bundle, find_bundle
from worker.model.bundle.ensemble import Model
from worker.model.bundle.fit_record import SPLIT_FILE
from worker.training.split import HASH_DIGITS, read_training_hashes


@dataclass(frozen=True, slots=True)
class Lineage:
    """Training set of some weights.

    trained_on: starts of the pixel hashes of all images trained on, None if unknown.
    """

    trained_on: frozenset[str] | None

    def __or__(self, other: "Lineage") -> "Lineage":
        """Return the union; it is unknown if one of them is."""
        if self.trained_on is None or other.trained_on is None:
            return Lineage(None)
        return Lineage(self.trained_on | other.trained_on)

    def has_seen(self, validation: set[str]) -> Literal["yes", "no", "unknown"]:
        """Return whether any image of a validation set, given by pixel hashes, was trained on."""
        if self.trained_on is None:
            return "unknown"
        return "yes" if any(pixels[:HASH_DIGITS] in self.trained_on for pixels in validation) else "no"


def trace_lineage(ref: str | None, model: Model | None) -> Lineage:
    """Return the lineage of the bundle that `find_bundle` finds by `ref`, empty for random weights (None).

    The training set of an ensemble is the union over its members. Raises ModelError if `split.csv` is missing or does
    not match the SHA-256 in the manifest.
    """
    if ref is None or model is None:
        return Lineage(frozenset())
    folder = find_bundle(ref)
    if isinstance(model, Bundle):
        return Lineage(_read(folder / SPLIT_FILE, model))
    known: set[str] = set()
    for network, name in zip(model.networks, model.manifest.split_files, strict=True):
        hashes = _read(folder / name, network)
        if hashes is None:
            return Lineage(None)
        known |= hashes
    return Lineage(frozenset(known))


def _read(path: Path, network: Bundle) -> frozenset[str] | None:
    record = network.manifest.fit
    if record is None and not network.weights[f"{HEAD}/kernel"].any():
        # A head of zeros, as `import` gives to weights of ImageNet, has seen no grades.
        return frozenset()
    if record is None or record.ancestry == "unknown":
        return None
    try:
        split = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    sha256 = hashlib.sha256(split).hexdigest()
    if sha256 != record.split_sha256:
        raise ModelError(f"{path}: SHA-256 is {sha256}, model.json has {record.split_sha256}")
    return read_training_hashes(split)
