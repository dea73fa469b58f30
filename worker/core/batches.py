"""Divide an iterable into batches."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` items, and a shorter last one; `itertools.batched` exists since Python 3.12 only."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
