"""What the weights that a fit begins with have already learnt from."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from worker.core.errors import ModelError
from worker.model.bundle.bundle import Bundle, find_bundle
from worker.model.bundle.ensemble import Model
from worker.model.bundle.fit_record import SPLIT_FILE
from worker.training.split import HASH_DIGITS, read_training_hashes


@dataclass(frozen=True, slots=True)
class Lineage:
    """`trained_on`: starts of the pixel hashes that the weights learnt from, None where nobody wrote them down."""

    trained_on: frozenset[str] | None

    def has_seen(self, validation: set[str]) -> Literal["yes", "no", "unknown"]:
        """Whether one of these pictures, by pixel hash, was among them."""
        if self.trained_on is None:
            return "unknown"
        return "yes" if any(pixels[:HASH_DIGITS] in self.trained_on for pixels in validation) else "no"


def trace_lineage(ref: str | None, model: Model | None) -> Lineage:
    """Of a bundle that `find_bundle` finds by `ref`; of random weights, which have seen nothing, where there is none.

    What any member of an ensemble has learnt from, the ensemble has. Raises ModelError when a split is not the one that
    its manifest promises.
    """
    if ref is None or model is None:
        return Lineage(frozenset())
    folder = find_bundle(ref)
    if isinstance(model, Bundle):
        return Lineage(_read(folder / SPLIT_FILE, model))
    known: set[str] = set()
    for network, name in zip(model.networks, model.manifest.split_files, strict=True):
        learnt = _read(folder / name, network)
        if learnt is None:
            return Lineage(None)
        known |= learnt
    return Lineage(frozenset(known))


def _read(path: Path, network: Bundle) -> frozenset[str] | None:
    record = network.manifest.fit
    if record is None or record.ancestry == "unknown":
        return None
    try:
        split = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    sha256 = hashlib.sha256(split).hexdigest()
    if sha256 != record.split_sha256:
        raise ModelError(f"{path}: SHA-256 is {sha256}, model.json promises {record.split_sha256}")
    return read_training_hashes(split)
