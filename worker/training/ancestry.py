"""What the weights that a fit begins with have already learnt from."""

import hashlib
from dataclasses import dataclass
from typing import Literal

from worker.contract.errors import ModelError
from worker.model.bundle import Bundle, find_bundle
from worker.model.fit_record import SPLIT_FILE
from worker.training.split import HASH_DIGITS, read_trained_on


@dataclass(frozen=True, slots=True)
class Ancestry:
    """`trained_on`: starts of the pixel hashes that the weights learnt from, None where nobody wrote them down."""

    trained_on: frozenset[str] | None

    def has_seen(self, validation: set[str]) -> Literal["yes", "no", "unknown"]:
        """Whether one of these pictures, by pixel hash, was among them."""
        if self.trained_on is None:
            return "unknown"
        return "yes" if any(pixels[:HASH_DIGITS] in self.trained_on for pixels in validation) else "no"


def trace_ancestry(ref: str | None, bundle: Bundle | None) -> Ancestry:
    """Of a bundle that `find_bundle` finds by `ref`; of random weights, which have seen nothing, where there is none.

    Raises ModelError when its split is not the one that its manifest promises.
    """
    if ref is None or bundle is None:
        return Ancestry(frozenset())
    record = bundle.manifest.fit
    if record is None or record.ancestry == "unknown":
        return Ancestry(None)
    path = find_bundle(ref) / SPLIT_FILE
    try:
        split = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    sha256 = hashlib.sha256(split).hexdigest()
    if sha256 != record.split_sha256:
        raise ModelError(f"{path}: SHA-256 is {sha256}, model.json promises {record.split_sha256}")
    return Ancestry(read_trained_on(split))
