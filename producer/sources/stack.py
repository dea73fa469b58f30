"""List the entries of an `.npy` stack of preprocessed images."""

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from worker.core.errors import SourceError
from worker.core.manifests.canonical_uri import canonical_path
from worker.core.manifests.image_reference import ImageReference, file_etag
from worker.core.manifests.labels import read_labels_in_order
from worker.core.storage.npy_stack import NpyStack, open_stack
from worker.core.uris import file_uri

SAMPLED_ENTRIES = 16


def list_stack_entries(
    path: Path, labels: Path | None, allowed_columns: Collection[str] = ()
) -> Iterator[ImageReference]:
    """Return one reference per entry, from `file:///stack.npy#0` on, with the grades of `labels` in the same order.

    path: (N, H, W, 3) RGB, uint8 or float32 in [0, 1]. The file is never loaded as a whole and never unpickled.
    Raises SourceError for other content, values outside [0, 1] in a sample of 16 entries, or a number of labels that
    differs from N.
    """
    path = canonical_path(path)
    try:
        etag = file_etag(path.stat())
        with open_stack(path) as stack:
            count = len(stack)
            if stack.dtype == np.float32:
                _check_range(path, stack)
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot read {path} as a stack of images: {error}") from error
    grades = [None] * count if labels is None else read_labels_in_order(labels, allowed_columns)
    if len(grades) != count:
        raise SourceError(f"{labels} has {len(grades)} labels, {path} has {count} images")
    uri = file_uri(path)
    return (ImageReference(f"{uri}#{index}", reference_grade=grade, etag=etag) for index, grade in enumerate(grades))


def _check_range(path: Path, stack: NpyStack) -> None:
    for index in sorted({int(i) for i in np.linspace(0, len(stack) - 1, SAMPLED_ENTRIES)} if len(stack) else ()):
        entry = stack.read(index)
        low, high = float(entry.min()), float(entry.max())
        if not (low >= 0.0 and high <= 1.0):
            raise SourceError(f"{path}, entry {index}: values from {low:g} to {high:g} are outside [0, 1]")
