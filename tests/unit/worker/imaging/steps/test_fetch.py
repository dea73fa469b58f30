"""Bytes that the manifest did not promise are asked for again, and then refused."""

import hashlib
from collections.abc import Callable, Iterator

import pytest

from worker.core.errors import ImageChecksumError
from worker.core.settings import Settings
from worker.core.storage.object_store import Storage
from worker.imaging.steps.fetch import CHECKSUM_ATTEMPTS, fetch_photograph

URI = "s3://eyes/1.jpg"
GOOD, BAD = b"as photographed", b"as phot\0graphed"
PROMISED = hashlib.sha256(GOOD).hexdigest()


class BadLine(Storage):
    """Storage from which the same reference arrives differently each time."""

    def __init__(self, settings: Settings, arrivals: Iterator[bytes]) -> None:
        super().__init__(settings)
        self.arrivals = arrivals

    def read(self, uri: str, *, max_bytes: int) -> bytes:
        assert (uri, max_bytes) == (URI, 99)
        return next(self.arrivals)


def test_bytes_changed_on_the_way_are_fetched_again(make_settings: Callable[..., Settings]) -> None:
    arrivals = iter([BAD] * (CHECKSUM_ATTEMPTS - 1) + [GOOD])
    storage = BadLine(make_settings(), arrivals)
    assert fetch_photograph(storage, URI, max_bytes=99, sha256=PROMISED.upper()) == GOOD


def test_bytes_that_stay_different_are_refused_with_both_digests(make_settings: Callable[..., Settings]) -> None:
    arrivals = iter([BAD] * CHECKSUM_ATTEMPTS + [GOOD])
    storage = BadLine(make_settings(), arrivals)
    with pytest.raises(ImageChecksumError) as caught:
        fetch_photograph(storage, URI, max_bytes=99, sha256=PROMISED)
    assert caught.value.detail == f"SHA-256 is {hashlib.sha256(BAD).hexdigest()}, the manifest promised {PROMISED}"
    assert next(arrivals) == GOOD


def test_bytes_without_a_promise_are_taken_as_they_come(make_settings: Callable[..., Settings]) -> None:
    assert fetch_photograph(BadLine(make_settings(), iter([BAD])), URI, max_bytes=99) == BAD
