"""An image that crashes, hangs or bloats its decoder fails alone."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from tests.services.process import HUNG_AFTER_S
from worker.core.errors import (
    FundusError,
    ImageDecodeError,
    ImageDecoderCrashError,
    ImageFormatError,
    ImageTooLargeError,
    ServiceError,
    Ungradable,
)
from worker.core.settings import Settings, parse_settings
from worker.imaging.headers.header import ImageLimits
from worker.imaging.recipe import Recipe
from worker.imaging.sandbox.memory_budget import BASE_MB
from worker.imaging.sandbox.pool import DecoderPool
from worker.imaging.steps.prepare import prepare_image

SAMPLES = Path(__file__).parents[5] / "producer" / "demo" / "samples"
ROGUE = (str(Path(__file__).parent / "rogue_decoder.py"),)
FORKING = (str(Path(__file__).parent / "forking_decoder.py"),)
RECIPE = Recipe(
    input_size_px=224, input_range=(-2.0, 127 / 64), crop="lit_box", enhancement="graham", cut_to_circle=True
)
GOOD = (SAMPLES / "IDRiD_138.jpg").read_bytes()


def settings(**changes: object) -> Settings:
    return parse_settings(**{"decode_processes": 2, "decode_timeout_s": 20, "overlay_size_px": 256, **changes})


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    pool = DecoderPool(RECIPE, settings(), program=ROGUE)
    yield pool
    pool.close()


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children() if "decoder" in " ".join(child.cmdline())}


def wait_until_gone(pids: set[int], timeout_s: float = 10) -> set[int]:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and any(map(psutil.pid_exists, pids)):
        time.sleep(0.05)
    return {pid for pid in pids if psutil.pid_exists(pid)}


def failure(pool: DecoderPool, data: bytes) -> FundusError:
    with pytest.raises(FundusError) as caught:
        pool.submit(data).result(60)
    return caught.value


def test_what_a_decoder_has_started_ends_with_it() -> None:
    pool = DecoderPool(RECIPE, settings(decode_processes=1), program=FORKING)
    started = int(failure(pool, b"pid").detail)
    assert psutil.pid_exists(started)
    pool.close()
    assert wait_until_gone({started}) == set()


def test_prepared_image_is_the_same_as_without_a_process() -> None:
    pool = DecoderPool(RECIPE, settings(decode_processes=1))
    try:
        found = pool.submit(GOOD).result(60)
    finally:
        pool.close()
    expected = prepare_image(GOOD, recipe=RECIPE, overlay_size_px=256, limits=ImageLimits())
    for name in ("enhanced", "canvas", "field_mask"):
        assert np.array_equal(getattr(found, name), getattr(expected, name))
        assert getattr(found, name).dtype == getattr(expected, name).dtype
    assert found.crop_box == expected.crop_box


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [("not-an-image.jpg", ImageFormatError, "image_format"), ("black-frame.jpg", Ungradable, "no_field")],
)
def test_image_errors_keep_their_class_and_code(
    pool: DecoderPool, name: str, kind: type[FundusError], code: str
) -> None:
    error = failure(pool, (SAMPLES / name).read_bytes())
    assert type(error) is kind
    assert error.code == code
    assert error.detail


def test_crash_fails_one_image_and_not_its_neighbours(pool: DecoderPool) -> None:
    order = [GOOD, b"segfault", GOOD, GOOD, b"segfault", b"exit", GOOD, GOOD]
    futures = [pool.submit(data) for data in order]
    errors = [future.exception(60) for future in futures]
    assert [error is None for error in errors] == [data is GOOD for data in order]
    assert [str(error) for error in errors if error] == [
        "decoder was killed by SIGSEGV (image of 8 bytes)",
        "decoder was killed by SIGSEGV (image of 8 bytes)",
        "decoder exited with status 3 (image of 4 bytes)",
    ]
    assert all(isinstance(error, ImageDecoderCrashError) for error in errors if error)


def test_hang_ends_at_the_timeout_and_does_not_block_its_neighbour() -> None:
    pool = DecoderPool(RECIPE, settings(decode_timeout_s=1.0), program=ROGUE)
    try:
        hanging = pool.submit(b"hang")
        pool.submit(GOOD).result(60)
        assert not hanging.done()
        with pytest.raises(ImageDecoderCrashError, match=r"decoder timed out after 1 s \(image of 4 bytes\)") as caught:
            hanging.result(60)
        assert caught.value.code == "image_decoder_crash"
        pool.submit(GOOD).result(60)
    finally:
        pool.close()


def test_image_that_exceeds_the_memory_limit_is_too_large_and_the_process_survives() -> None:
    pool = DecoderPool(RECIPE, settings(decode_processes=1, decode_memory_mb=256), program=ROGUE)
    try:
        before = children()
        error = failure(pool, b"hog")
        assert type(error) is ImageTooLargeError
        assert error.detail == "decoding 3 bytes exceeds the decoder's memory limit"
        pool.submit(GOOD).result(60)
        assert children() == before
    finally:
        pool.close()


def test_codec_that_runs_out_of_memory_reports_too_large() -> None:
    bomb = cv2.imencode(".png", np.zeros((11_000, 11_000), np.uint8))[1].tobytes()
    pool = DecoderPool(RECIPE, settings(decode_processes=1, decode_memory_mb=256), program=ROGUE)
    try:
        error = failure(pool, bomb)
    finally:
        pool.close()
    assert type(error) is ImageTooLargeError
    assert error.detail == "PNG of 11000 x 11000 pixels exceeds the decoder's memory limit"


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + HUNG_AFTER_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def handles(pid: int, number: signal.Signals) -> bool:
    """Return whether a process has a handler for a signal, which would end it otherwise."""
    caught = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)


def test_image_whose_process_is_killed_is_tried_once_more_alone() -> None:
    others = children()
    pool = DecoderPool(RECIPE, settings(), program=ROGUE)
    budget = pool._budget
    try:
        first, second = mine = sorted(children() - others)
        futures = [pool.submit(b"pause") for _ in mine]
        wait_until(lambda: budget.used_mb == 2 * BASE_MB)
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: budget.waiting)
        assert budget.used_mb == BASE_MB
        assert not any(future.done() for future in futures)
        os.kill(second, signal.SIGUSR1)
        wait_until(lambda: budget.used_mb == budget.total_mb)
        wait_until(lambda: children() - others - set(mine))
        (new,) = children() - others - set(mine)
        wait_until(lambda: handles(new, signal.SIGUSR1))
        os.kill(new, signal.SIGUSR1)
        assert {str(future.exception(HUNG_AFTER_S)) for future in futures} == {f"resumed {second}", f"resumed {new}"}
    finally:
        pool.close()


def test_image_whose_process_is_killed_twice_fails(pool: DecoderPool) -> None:
    error = failure(pool, b"kill")
    assert type(error) is ImageDecoderCrashError
    reason = "decoder was killed by SIGKILL (image of 4 bytes), twice; the second time no other image was decoded"
    assert (error.code, error.detail) == ("image_decoder_crash", reason)
    pool.submit(GOOD).result(60)


def test_large_image_waits_for_memory() -> None:
    bomb = cv2.imencode(".png", np.zeros((11_000, 11_000), np.uint8))[1].tobytes()
    others = children()
    pool = DecoderPool(RECIPE, settings(decode_memory_mb=256, decode_budget_mb=256), program=ROGUE)
    try:
        mine = children() - others
        small = pool.submit(b"pause")
        wait_until(lambda: pool._budget.used_mb == BASE_MB)
        large = pool.submit(bomb)
        wait_until(lambda: pool._budget.waiting)
        assert not large.done()
        for pid in mine:
            os.kill(pid, signal.SIGUSR1)
        assert str(small.exception(HUNG_AFTER_S)).startswith("resumed")
        assert type(large.exception(HUNG_AFTER_S)) is ImageTooLargeError
    finally:
        pool.close()


def test_killed_idle_process_is_replaced(pool: DecoderPool) -> None:
    before = children()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    for future in [pool.submit(GOOD) for _ in range(4)]:
        future.result(60)
    assert len(children()) == 2
    assert not children() & before


def test_output_of_a_library_is_not_a_response(pool: DecoderPool) -> None:
    assert failure(pool, b"print").detail == "printed"


def test_process_imports_nothing_heavy_and_sees_no_secrets(pool: DecoderPool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert failure(pool, b"imports").detail == "light"
    monkeypatch.setenv("FUNDUS_DATABASE_URL", "postgresql://user:password@host/name")
    fresh = DecoderPool(RECIPE, settings(decode_processes=1), program=ROGUE)
    try:
        names = failure(fresh, b"environment").detail.split(",")
    finally:
        fresh.close()
    assert "FUNDUS_DATABASE_URL" not in names
    assert "PATH" in names


def test_photographs_of_equal_size_reuse_freed_memory() -> None:
    picture = cv2.imdecode(np.frombuffer(GOOD, np.uint8), cv2.IMREAD_COLOR)
    data = cv2.imencode(".jpg", cv2.resize(picture, (4288, 2848)))[1].tobytes()
    others = children()
    pool = DecoderPool(RECIPE, settings(decode_processes=1), program=ROGUE)

    def new_pages() -> int:
        (process,) = children() - others
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[7])

    try:
        for _ in range(3):
            pool.submit(data).result(60)
        before = new_pages()
        for _ in range(3):
            pool.submit(data).result(60)
        assert new_pages() - before < 300  # 1,200 with glibc's defaults.
    finally:
        pool.close()


def test_process_is_replaced_after_a_number_of_images() -> None:
    pool = DecoderPool(RECIPE, settings(decode_processes=1), program=ROGUE, images_per_process=2)
    try:
        seen = []
        for _ in range(4):
            pool.submit(GOOD).result(60)
            seen.append(children())
    finally:
        pool.close()
    assert seen[0] == seen[1] != seen[2] == seen[3]


def test_close_finishes_submitted_images_and_ends_the_processes() -> None:
    before = children()
    pool = DecoderPool(RECIPE, settings(), program=ROGUE)
    mine = children() - before
    futures = [pool.submit(GOOD) for _ in range(6)]
    pool.close()
    assert all(future.done() and future.exception() is None for future in futures)
    assert len(mine) == 2
    assert wait_until_gone(mine) == set()


def test_process_ignores_signals_for_a_warm_shutdown(pool: DecoderPool) -> None:
    before = children()
    for pid in before:
        assert os.getpgid(pid) != os.getpgid(0)
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)
    pool.submit(GOOD).result(60)
    assert children() == before


def test_processes_die_with_a_killed_worker() -> None:
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, *ROGUE], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent
    )
    assert worker.stdout is not None
    pids = set(map(int, worker.stdout.readline().split()))
    time.sleep(0.2)  # By now one of them hangs.
    worker.kill()
    worker.wait()
    worker.stdout.close()
    assert len(pids) == 2
    assert wait_until_gone(pids) == set()


WORKER = """
import sys, time, psutil
from test_pool import RECIPE, settings
from worker.imaging.sandbox.pool import DecoderPool
pool = DecoderPool(RECIPE, settings(), program=sys.argv[1:])
pool.submit(b"hang")
print(*(child.pid for child in psutil.Process().children()), flush=True)
time.sleep(60)
"""


def test_program_that_does_not_start_raises_service_error(tmp_path: Path) -> None:
    program = tmp_path / "broken.py"
    program.write_text("raise SystemExit(4)")
    before = children()
    with pytest.raises(ServiceError, match="a decoding process did not start: exited with status 4") as caught:
        DecoderPool(RECIPE, settings(), program=(str(program),))
    assert caught.value.code == "decoder_unavailable"
    assert children() == before


def test_damaged_image_does_not_end_the_process(pool: DecoderPool) -> None:
    before = children()
    error = failure(pool, GOOD[:30_000])
    assert type(error) is ImageDecodeError
    assert error.detail == "JPEG truncated at byte 30000: no end marker"
    assert children() == before
