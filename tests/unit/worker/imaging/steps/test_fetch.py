"""Bytes whose checksum does not match the manifest are fetched again, and then refused."""

import hashlib
from collections.abc import Iterator

import pytest

from worker.core.errors import ImageChecksumError
from worker.core.storage.source_reader import SourceReader
from worker.imaging.steps.fetch import CHECKSUM_ATTEMPTS, fetch_photograph

URI = "s3://eyes/1.jpg"
GOOD, CORRUPTED = b"as photographed", b"as phot\0graphed"
SHA256 = hashlib.sha256(GOOD).hexdigest()


class UnreliableReader(SourceReader):
    """Reader that returns different bytes on each read."""

    def __init__(self, responses: Iterator[bytes]) -> None:
        self.responses = responses

    def read(self, uri: str, *, max_bytes: int) -> bytes:
        assert (uri, max_bytes) == (URI, 99)
        return next(self.responses)


def test_bytes_corrupted_in_transit_are_fetched_again() -> None:
    responses = iter([CORRUPTED] * (CHECKSUM_ATTEMPTS - 1) + [GOOD])
    sources = UnreliableReader(responses)
    assert fetch_photograph(sources, URI, max_bytes=99, sha256=SHA256.upper()) == GOOD


def test_persistent_mismatch_is_refused_with_both_digests() -> None:
    responses = iter([CORRUPTED] * CHECKSUM_ATTEMPTS + [GOOD])
    sources = UnreliableReader(responses)
    with pytest.raises(ImageChecksumError) as caught:
        fetch_photograph(sources, URI, max_bytes=99, sha256=SHA256)
    assert (
        caught.value.detail
        == f"SHA-256 is {hashlib.sha256(CORRUPTED).hexdigest()}, expected {SHA256} from the manifest"
    )
    assert next(responses) == GOOD


def test_bytes_without_a_checksum_are_accepted() -> None:
    assert fetch_photograph(UnreliableReader(iter([CORRUPTED])), URI, max_bytes=99) == CORRUPTED
