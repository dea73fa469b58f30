"""Set apart the pictures that judge a model, so that nothing it learns from comes back in them.

Pictures with the same pixels and pictures of one patient stay together. A group's side depends on its own members and
the seed alone: more data, another order or another input size move nothing from one side to the other.
"""

import hashlib
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

HASH_DIGITS = 16
"""Of a pixel hash, in files: 64 bits tell some millions of pictures apart."""


def split_groups(
    pixel_hashes: Sequence[str], patients: Sequence[str | None], *, share: float, seed: int
) -> NDArray[np.bool_]:
    """Which pictures are for validation, bool (N,); about `share` of the groups.

    patients: None where none is known; such a picture is grouped by its pixels alone.
    """
    groups = group_images(pixel_hashes, patients)
    smallest: dict[int, str] = {}
    for group, pixels in zip(groups.tolist(), pixel_hashes, strict=True):
        smallest[group] = min(pixels, smallest.get(group, pixels))
    apart = {group: _uniform(seed, pixels) < share for group, pixels in smallest.items()}
    return np.array([apart[group] for group in groups.tolist()], bool)


def group_images(pixel_hashes: Sequence[str], patients: Sequence[str | None]) -> NDArray[np.int64]:
    """The number of each picture's group, that of its first member, int (N,); joined through pixels and patients."""
    parents = list(range(len(pixel_hashes)))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    first: dict[tuple[str, str], int] = {}
    for index, (pixels, patient) in enumerate(zip(pixel_hashes, patients, strict=True)):
        for key in (("pixels", pixels), *((("patient", patient),) if patient else ())):
            one, other = sorted((root(first.setdefault(key, index)), root(index)))
            parents[other] = one
    return np.array([root(index) for index in range(len(parents))], np.int64)


def write_split(
    pixel_hashes: Sequence[str], validation: NDArray[np.bool_], *, trained_before: Collection[str] = ()
) -> bytes:
    """The split as CSV, sorted: the start of each pixel hash and its part. Nothing in it names a picture or a person.

    trained_before: what the first weights had learnt from; it counts as training.
    """
    rows = {
        f"{pixels[:HASH_DIGITS]},{'validation' if apart else 'training'}"
        for pixels, apart in zip(pixel_hashes, validation.tolist(), strict=True)
    } | {f"{pixels},training" for pixels in trained_before}
    return "\n".join(["pixel_sha256,part", *sorted(rows), ""]).encode()


def read_training_hashes(split: bytes) -> frozenset[str]:
    """The pixel hashes, as far as they are written, that a split's model was trained on."""
    rows = (line.partition(",") for line in split.decode().splitlines()[1:])
    return frozenset(pixels for pixels, _, part in rows if part == "training")


def _uniform(seed: int, pixels: str) -> float:
    return int.from_bytes(hashlib.sha256(f"{seed} {pixels}".encode()).digest()[:8]) / 2**64
