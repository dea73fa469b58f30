"""A short selection of `make fuzz`: nothing crashes, hangs or says more than it should."""

import random
from concurrent.futures import Future

import pytest

from tests.fuzz.decoding import fuzz_decoders, fuzz_header, settle
from tests.fuzz.documents import fuzz_document, make_targets
from tests.fuzz.pictures import make_seeds, mutate
from tests.fuzz.tally import Tally
from worker.core.errors import ImageDecodeError, ImageDecoderCrashError

SEED = 20_261_122


def assert_sound(tally: Tally, cases: int) -> None:
    assert (tally.crashes, tally.hangs, tally.tracebacks) == ([], 0, 0)
    assert tally.cases == cases


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "TIFF", "WebP", "BMP"])
def test_damaged_picture_costs_no_decoder(fmt: str) -> None:
    tally = fuzz_decoders(fmt, 150, SEED)
    assert_sound(tally, 150)
    assert tally.outcomes["image_damaged"] > 20


def test_damaged_header_is_refused_by_name() -> None:
    tally = fuzz_header(5000, SEED)
    assert_sound(tally, 5000)
    assert {"JPEG", "PNG", "TIFF", "WebP", "BMP", "image_damaged", "image_format"} <= tally.outcomes.keys()


@pytest.mark.parametrize("name", make_targets())
def test_hostile_document_is_refused_by_name(name: str) -> None:
    tally = fuzz_document(name, 200, SEED)
    assert_sound(tally, 200)
    assert len(tally.outcomes) >= 2


def test_damage_is_the_same_for_the_same_seed() -> None:
    seeds = make_seeds()["PNG"]
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
def test_what_nothing_should_end_as_is_counted(error: Exception, found: tuple[int, int]) -> None:
    tally, future = Tally("decode"), Future()
    future.set_exception(error)
    settle(tally, b"eye", future)
    assert (len(tally.crashes), tally.hangs) == found
    assert tally.sound == (found == (0, 0))
    assert tally.cases == 1
