"""A short run of `make fuzz`: no crash, no hang, no traceback on standard error."""

import random
from concurrent.futures import Future

import pytest

from tests.fuzz.damaged_images import make_seed_images, mutate
from tests.fuzz.document_targets import fuzz_document, make_targets
from tests.fuzz.fuzz_result import FuzzResult
from tests.fuzz.image_targets import count_outcome, fuzz_decoders, fuzz_headers
from worker.core.errors import ImageDecodeError, ImageDecoderCrashError

SEED = 20_261_122


def assert_passed(result: FuzzResult, cases: int) -> None:
    assert (result.crashes, result.hangs, result.tracebacks) == ([], 0, 0)
    assert result.cases == cases


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "TIFF", "WebP", "BMP", "DICOM"])
def test_damaged_images_crash_no_decoder(fmt: str) -> None:
    result = fuzz_decoders(fmt, 150, SEED)
    assert_passed(result, 150)
    assert result.outcomes["image_damaged"] > 20


def test_damaged_headers_are_refused_with_a_code() -> None:
    result = fuzz_headers(6000, SEED)
    assert_passed(result, 6000)
    assert {"JPEG", "PNG", "TIFF", "WebP", "BMP", "DICOM", "image_damaged", "image_format"} <= result.outcomes.keys()


@pytest.mark.parametrize("name", make_targets())
def test_hostile_documents_are_refused_with_a_code(name: str) -> None:
    result = fuzz_document(name, 200, SEED)
    assert_passed(result, 200)
    assert len(result.outcomes) >= 2


def test_damage_is_reproducible() -> None:
    seeds = make_seed_images()["PNG"]
    assert mutate(seeds[0], seeds, random.Random(1)) == mutate(seeds[0], seeds, random.Random(1))
    assert mutate(seeds[0], seeds, random.Random(1)) != seeds[0]


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (ImageDecoderCrashError("decoder was killed by SIGSEGV (image of 3 bytes)"), (1, 0)),
        (ImageDecoderCrashError("decoder timed out after 20 s (image of 3 bytes)"), (0, 1)),
        (ZeroDivisionError("ours"), (1, 0)),
        (ImageDecodeError("JPEG truncated"), (0, 0)),
    ],
)
def test_crashes_and_hangs_are_counted(error: Exception, found: tuple[int, int]) -> None:
    result, future = FuzzResult("decode"), Future()
    future.set_exception(error)
    count_outcome(result, b"image", future)
    assert (len(result.crashes), result.hangs) == found
    assert result.passed == (found == (0, 0))
    assert result.cases == 1
