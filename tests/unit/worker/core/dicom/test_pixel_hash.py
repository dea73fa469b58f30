"""The hash of a DICOM file's pixels."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import DataElement, Dataset, Sequence, dcmread
from pydicom.uid import ImplicitVRLittleEndian

from tests.services.dicom_files import LOSSLESS_SYNTAXES, make_code, wrap_jpeg, wrap_pixels
from worker.core.dicom.pixel_hash import MAX_ELEMENTS, hash_pixels

JPEG = (Path(__file__).parents[5] / "producer" / "demo" / "samples" / "IDRiD_001.jpg").read_bytes()
SEQUENCE_END = b"\xfe\xff\xdd\xe0"
PIXELS = np.random.default_rng(1).integers(0, 255, (100, 120, 3), np.uint8)


def nest(depth: int) -> Dataset:
    """Return an item with sequences in one another."""
    item = make_code("1")
    if depth:
        item.AnatomicRegionModifierSequence = Sequence([nest(depth - 1), nest(0)])
    return item


def write_open(file: bytes) -> bytes:
    """Write a file again, its sequences and their items with undefined lengths."""

    def open_sequences(dataset: Dataset, element: DataElement) -> None:
        if element.VR == "SQ":
            element.is_undefined_length = True
            dataset.is_undefined_length_sequence_item = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True

    dataset = dcmread(BytesIO(file))
    dataset.walk(open_sequences)
    written = BytesIO()
    dataset.save_as(written, enforce_file_format=True)
    assert written.getvalue().count(SEQUENCE_END) > file.count(SEQUENCE_END)
    return written.getvalue()


def test_header_of_the_patient_does_not_count() -> None:
    photograph = wrap_jpeg(JPEG)
    hashes = {
        hash_pixels(photograph),
        hash_pixels(b"II*\0" + photograph[4:]),
        hash_pixels(
            wrap_jpeg(
                JPEG, PatientID="2002", PatientName="Corrected^Name", ImageLaterality="L", SOPInstanceUID="2.25.18"
            )
        ),
        hash_pixels(write_open(photograph)),
        hash_pixels(wrap_jpeg(JPEG, PatientComments="x" * 70_000)),
    }
    assert len(hashes) == 1
    assert len(hashes.pop() or "") == 64


@pytest.mark.parametrize("syntax", [*LOSSLESS_SYNTAXES, ImplicitVRLittleEndian])
def test_each_syntax_is_walked_over_sequences_of_undefined_length(syntax: str) -> None:
    plain, nested = (wrap_pixels(PIXELS, syntax, AnatomicRegionSequence=[nest(depth)]) for depth in (0, 4))
    assert hash_pixels(plain) == hash_pixels(nested) == hash_pixels(write_open(nested)) is not None
    assert hash_pixels(plain) != hash_pixels(wrap_pixels(PIXELS[::-1].copy(), syntax))


def test_other_pixels_or_another_description_of_them_count() -> None:
    changed = (
        wrap_jpeg(JPEG),
        wrap_jpeg(JPEG[:-2] + b"\0\0\xff\xd9"),
        wrap_jpeg(JPEG, PhotometricInterpretation="RGB"),
        wrap_jpeg(JPEG, Rows=100),
        wrap_pixels(PIXELS, LOSSLESS_SYNTAXES[0]),
    )
    assert len({hash_pixels(file) for file in changed}) == len(changed)


def test_malformed_files_have_none() -> None:
    photograph = wrap_jpeg(JPEG)
    endless = photograph[: photograph.index(b"\x08\x00\x05\x00CS")] + b"\x08\x00\x05\x00CS\x00\x00" * (MAX_ELEMENTS + 1)
    deep = write_open(wrap_jpeg(JPEG, AnatomicRegionSequence=[nest(40)]))
    for file in (b"", photograph[:200], photograph[:-10], photograph[: len(photograph) // 2], endless, deep):
        assert hash_pixels(file) is None
