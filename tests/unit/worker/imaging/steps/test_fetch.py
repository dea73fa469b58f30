"""Bytes whose checksum does not match the manifest are fetched again, and then refused."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.services.dicom_files import wrap_jpeg
from worker.core.content import ContentId
from worker.core.errors import ImageChangedError, ImageChecksumError
from worker.core.settings import Settings
from worker.core.storage.object_store import ObjectContent
from worker.core.storage.source_reader import SourceReader
from worker.core.storage.storage import Storage
from worker.imaging.steps.fetch import CHECKSUM_ATTEMPTS, fetch_photograph, fetch_stack_entry

URI = "s3://eyes/1.jpg"
GOOD, CORRUPTED = b"as photographed", b"as phot\0graphed"
SHA256 = hashlib.sha256(GOOD).hexdigest()


class UnreliableReader(SourceReader):
    """Reader that returns different bytes on each read."""

    def __init__(self, responses: Iterator[bytes]) -> None:
        self.responses = responses

    def read(self, uri: str, *, max_bytes: int) -> ObjectContent:
        assert (uri, max_bytes) == (URI, 99)
        return ObjectContent(next(self.responses), "v7")


def test_bytes_corrupted_in_transit_are_fetched_again() -> None:
    responses = iter([CORRUPTED] * (CHECKSUM_ATTEMPTS - 1) + [GOOD])
    sources = UnreliableReader(responses)
    assert fetch_photograph(sources, URI, max_bytes=99, sha256=SHA256.upper()).data == GOOD


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
    assert fetch_photograph(UnreliableReader(iter([CORRUPTED])), URI, max_bytes=99).data == CORRUPTED


def test_fetched_bytes_carry_their_hash_and_version() -> None:
    assert fetch_photograph(UnreliableReader(iter([GOOD])), URI, max_bytes=99).content == ContentId(SHA256, "v7")


def test_photograph_that_differs_from_the_graded_one_is_refused_whatever_the_manifest_says() -> None:
    retaken = hashlib.sha256(CORRUPTED).hexdigest()
    sources = UnreliableReader(iter([CORRUPTED] * CHECKSUM_ATTEMPTS))
    with pytest.raises(ImageChangedError, match="no longer the photograph that was graded") as caught:
        fetch_photograph(sources, URI, max_bytes=99, sha256=retaken, graded_sha256=SHA256)
    assert retaken in caught.value.detail
    assert SHA256 in caught.value.detail


def test_graded_photograph_corrupted_in_transit_is_fetched_again() -> None:
    sources = UnreliableReader(iter([CORRUPTED, GOOD]))
    assert fetch_photograph(sources, URI, max_bytes=99, graded_sha256=SHA256).data == GOOD


def test_dicom_file_is_the_graded_one_after_its_header_was_corrected() -> None:
    jpeg = (Path(__file__).parents[5] / "producer" / "demo" / "samples" / "IDRiD_001.jpg").read_bytes()
    graded, corrected = wrap_jpeg(jpeg), wrap_jpeg(jpeg, PatientName="Corrected^Name")
    other = wrap_jpeg(jpeg[:-2] + b"\0\0\xff\xd9")
    found = fetch_photograph(UnreliableReader(iter([graded])), URI, max_bytes=99).content.sha256
    assert found != hashlib.sha256(graded).hexdigest()
    reader = UnreliableReader(iter([corrected]))
    assert fetch_photograph(reader, URI, max_bytes=99, graded_sha256=found).data == corrected
    with pytest.raises(ImageChangedError, match=found):
        fetch_photograph(UnreliableReader(iter([other] * 3)), URI, max_bytes=99, graded_sha256=found)
    # A manifest has the hash of the file, and so have images that earlier versions graded.
    for name in ("sha256", "graded_sha256"):
        reader, whole = UnreliableReader(iter([graded])), hashlib.sha256(graded).hexdigest()
        assert fetch_photograph(reader, URI, max_bytes=99, **{name: whole}).content.sha256 == found


def test_stack_entry_that_differs_from_the_graded_one_is_refused(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    sources = Storage(make_settings()).sources
    np.save(tmp_path / "x.npy", np.zeros((2, 4, 4, 3), np.uint8))
    uri = f"{(tmp_path / 'x.npy').as_uri()}#1"
    graded = fetch_stack_entry(sources, uri, max_bytes=99).content.sha256
    assert graded == hashlib.sha256(bytes(48)).hexdigest()
    assert fetch_stack_entry(sources, uri, max_bytes=99, graded_sha256=graded).data.shape == (4, 4, 3)
    np.save(tmp_path / "x.npy", np.ones((3, 4, 4, 3), np.uint8))
    with pytest.raises(ImageChangedError, match="no longer the photograph that was graded"):
        fetch_stack_entry(sources, uri, max_bytes=99, graded_sha256=graded)
