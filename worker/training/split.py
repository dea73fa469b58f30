"""Split images into a training set and a validation set without leakage.

Images with the same pixels and images of one patient stay together. The part of a group depends on its members and the
seed alone: more data, another order or another input size move no group.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HASH_DIGITS = 16
"""Digits of a pixel hash in files: 64 bits distinguish millions of images."""


@dataclass(frozen=True, slots=True)
class Split:
    """Indices of the training and the validation images, int; images may be in neither part."""

    training: NDArray[np.int64]
    validation: NDArray[np.int64]


def split_groups(
    pixel_hashes: Sequence[str], patients: Sequence[str | None], *, share: float, seed: int
) -> NDArray[np.bool_]:
    """Return which images are for validation, bool (N,), about `share` of the groups.

    patients: None for an unknown patient; such an image is grouped by its pixels alone.
    """
    groups = group_images(pixel_hashes, patients)
    smallest: dict[int, str] = {}
    for group, pixels in zip(groups.tolist(), pixel_hashes, strict=True):
        smallest[group] = min(pixels, smallest.get(group, pixels))
    held_out = {group: _uniform(seed, pixels) < share for group, pixels in smallest.items()}
    return np.array([held_out[group] for group in groups.tolist()], bool)


def group_images(pixel_hashes: Sequence[str], patients: Sequence[str | None]) -> NDArray[np.int64]:
    """Return the group of each image, int (N,), named by the index of its first member.

    Images with the same pixels or the same patient are in one group, also indirectly.
    """
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
    """Return the split as sorted CSV: the start of each pixel hash and its part, without image or patient ids.

    trained_before: training set of the initial weights; it is added to the training part.
    """
    rows = {
        f"{pixels[:HASH_DIGITS]},{'validation' if held_out else 'training'}"
        for pixels, held_out in zip(pixel_hashes, validation.tolist(), strict=True)
    } | {f"{pixels},training" for pixels in trained_before}
    return "\n".join(["pixel_sha256,part", *sorted(rows), ""]).encode()


def read_training_hashes(split: bytes) -> frozenset[str]:
    """Return the starts of the pixel hashes in the training part of a split."""
    rows = (line.partition(",") for line in split.decode().splitlines()[1:])
    return frozenset(pixels for pixels, _, part in rows if part == "training")


def _uniform(seed: int, pixels: str) -> float:
    """Return a pseudo-random number in [0, 1) that depends on seed and pixels alone."""
    return int.from_bytes(hashlib.sha256(f"{seed} {pixels}".encode()).digest()[:8]) / 2**64
