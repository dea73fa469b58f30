"""Responses of a decoding process are validated before they are used."""

import io
import json
import struct
from mmap import mmap

import numpy as np
import pytest

from worker.core.errors import ImageDecodeError, ImageDecoderCrashError, Ungradable
from worker.imaging.photograph import PreparedImage
from worker.imaging.sandbox.protocol import read_request, read_response, write_error, write_request, write_response

SIZES = {"input_sizes_px": [4], "overlay_size_px": 6}


@pytest.fixture
def shared() -> mmap:
    return mmap(-1, 4096)


def response(header: object) -> io.BytesIO:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return io.BytesIO(struct.pack("<Q", len(encoded)) + encoded)


def test_requests_are_read_in_order_until_the_stream_ends(shared: mmap) -> None:
    received = []
    for data in (b"first", b"", b"third"):
        stream = io.BytesIO()
        write_request(stream, shared, data)
        stream.seek(0)
        received.append(read_request(stream, shared))
    assert [*received, read_request(io.BytesIO(), shared)] == [b"first", b"", b"third", None]


def test_prepared_image_survives_the_round_trip(shared: mmap) -> None:
    random = np.random.default_rng(0)
    sent = PreparedImage(
        enhanced=random.integers(0, 256, (4, 4, 3), np.uint8),
        canvas=random.integers(0, 256, (6, 6, 3), np.uint8),
        field_mask=random.random((6, 6)) < 0.5,
        crop_box=(-2, 9, 1, 5),
    )
    stream = io.BytesIO()
    write_response(stream, shared, sent)
    stream.seek(0)
    found = read_response(stream, shared, **SIZES)
    assert np.array_equal(found.enhanced, sent.enhanced)
    assert np.array_equal(found.canvas, sent.canvas)
    assert np.array_equal(found.field_mask, sent.field_mask)
    assert found.crop_box == sent.crop_box


def test_canvas_may_be_smaller_than_its_limit(shared: mmap) -> None:
    canvas = np.random.default_rng(0).integers(0, 256, (5, 5, 3), np.uint8)
    field_mask = np.tri(5, dtype=bool)
    stream = io.BytesIO()
    write_response(stream, shared, PreparedImage(np.ones((4, 4, 3), np.uint8), canvas, field_mask, (0, 5, 1, 4)))
    stream.seek(0)
    found = read_response(stream, shared, **SIZES)
    assert np.array_equal(found.canvas, canvas)
    assert np.array_equal(found.field_mask, field_mask)
    assert found.crop_box == (0, 5, 1, 4)


def test_inputs_of_extra_recipes_keep_their_order(shared: mmap) -> None:
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (side, side, 3), np.uint8) for side in (4, 5, 3)]
    canvas, field_mask = np.zeros((6, 6, 3), np.uint8), np.zeros((6, 6), bool)
    stream = io.BytesIO()
    write_response(stream, shared, PreparedImage(pictures[0], canvas, field_mask, (0, 6, 0, 6), tuple(pictures[1:])))
    stream.seek(0)
    found = read_response(stream, shared, input_sizes_px=[4, 5, 3], overlay_size_px=6)
    assert all(np.array_equal(one, other) for one, other in zip(found.model_input, pictures, strict=True))


@pytest.mark.parametrize("error", [ImageDecodeError("PNG broke"), Ungradable("12 of 25", code="too_dark")])
def test_error_keeps_its_class_code_and_detail(error: ImageDecodeError | Ungradable, shared: mmap) -> None:
    stream = io.BytesIO()
    write_error(stream, error)
    stream.seek(0)
    with pytest.raises(type(error)) as caught:
        read_response(stream, shared, **SIZES)
    assert (caught.value.code, caught.value.detail) == (error.code, error.detail)


def test_long_detail_is_cut_to_500_characters(shared: mmap) -> None:
    stream = io.BytesIO()
    write_error(stream, ImageDecodeError("\N{SNOWMAN}" * 2000))
    stream.seek(0)
    with pytest.raises(ImageDecodeError) as caught:
        read_response(stream, shared, **SIZES)
    assert caught.value.detail == "\N{SNOWMAN}" * 500


@pytest.mark.parametrize(
    ("stream", "sentence"),
    [
        (io.BytesIO(struct.pack("<Q", 2**60)), "header has 1152921504606846976 bytes, limit 4096"),
        (response(b"{"), "header is not JSON"),
        (response(b"[" * 4000), "header is not JSON"),
        (response([1, 2]), "header is a list, not an object"),
        (response({"error": "SystemExit", "code": "x", "detail": "y"}), "error 'SystemExit' is malformed"),
        (response({"error": "ImageDecodeError", "code": 7, "detail": "y"}), "error 'ImageDecodeError' is malformed"),
        (response({"crop_box": [0, 25, 0, 6]}), r"crop box \[0, 25, 0, 6\]"),
        (response({"crop_box": [-25, 6, 0, 6]}), r"crop box \[-25, 6, 0, 6\]"),
        (response({"crop_box": [6, 9, 0, 6]}), r"crop box \[6, 9, 0, 6\]"),
        (response({"crop_box": [0, 6, -3, 0]}), r"crop box \[0, 6, -3, 0\]"),
        (response({"crop_box": [3, 3, 0, 6]}), r"crop box \[3, 3, 0, 6\]"),
        (response({"crop_box": [0, 6, 0, True]}), r"crop box \[0, 6, 0, True\]"),
        (response({}), "crop box None is malformed"),
        (response({"crop_box": [0, 6, 0, 6], "canvas_px": 7}), "canvas of 7 pixels, limit 6"),
        (response({"crop_box": [0, 6, 0, 6], "canvas_px": 0}), "canvas of 0 pixels"),
        (response({"crop_box": [0, 6, 0, 6], "canvas_px": True}), "canvas of True pixels"),
        (response({"crop_box": [0, 21, 0, 5], "canvas_px": 5}), r"crop box \[0, 21, 0, 5\]"),
    ],
)
def test_malformed_response_counts_as_a_crash(stream: io.BytesIO, sentence: str, shared: mmap) -> None:
    with pytest.raises(ImageDecoderCrashError, match=sentence):
        read_response(stream, shared, **SIZES)


@pytest.mark.parametrize("size", [0, 7, 8, 20])
def test_truncated_response_raises_eof_error(size: int, shared: mmap) -> None:
    whole = response({"crop_box": [0, 6, 0, 6]}).getvalue()
    with pytest.raises(EOFError):
        read_response(io.BytesIO(whole[:size]), shared, **SIZES)
