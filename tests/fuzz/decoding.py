"""Damaged pictures through the header's check, and through decoding and field finding in the decoders' processes."""

import os
import random
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.fuzz.pictures import make_seeds, mutate
from tests.fuzz.tally import HUNG_AFTER_S, Tally, own_peak_mb
from worker.core.errors import ImageDecoderCrashError, ImageError, Ungradable
from worker.core.settings import parse_settings
from worker.imaging.headers.check import check_header
from worker.imaging.headers.header import ImageLimits
from worker.imaging.photograph import PreparedImage
from worker.imaging.recipe import Recipe
from worker.imaging.sandbox.pool import DecoderPool

RECIPE = Recipe(
    input_size_px=64, input_range=(-2.0, 127 / 64), crop="lit_box", enhancement="graham", cut_to_circle=True
)
SETTINGS = {
    "decode_processes": 2,
    "decode_timeout_s": 20,
    "decode_memory_mb": 1024,
    "overlay_size_px": 64,
    "max_image_pixels": 4_000_000,
}
IN_FLIGHT = 16


def damaged(fmt: str, count: int, seed: int) -> Iterator[bytes]:
    """`count` damaged pictures of a format; the same for the same seed."""
    seeds, rng = make_seeds(), random.Random(f"{fmt} {seed}")
    everything = [data for kind in seeds.values() for data in kind]
    for _ in range(count):
        yield mutate(rng.choice(seeds[fmt]), everything, rng)


def fuzz_header(count: int, seed: int) -> Tally:
    """Every picture has a header or an ImageError, at once."""
    tally, started = Tally("header"), time.monotonic()
    formats = list(make_seeds())
    for fmt in formats:
        for data in damaged(fmt, count // len(formats), seed):
            before = time.monotonic()
            try:
                outcome = check_header(data, ImageLimits()).format.value
            except ImageError as error:
                outcome = error.code
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
                tally.crashes.append(f"{type(error).__name__}: {error} for {data[:40].hex()}")
                continue
            if time.monotonic() - before > HUNG_AFTER_S:
                tally.hangs += 1
            else:
                tally.outcomes[outcome] += 1
    tally.peak_mb, tally.seconds = own_peak_mb(), time.monotonic() - started
    return tally


def fuzz_decoders(fmt: str, count: int, seed: int) -> Tally:
    """Every picture is prepared or has an ImageError or Ungradable, and the processes outlive them all."""
    tally, started = Tally(f"decode {fmt}"), time.monotonic()
    waiting: deque[tuple[bytes, Future[PreparedImage]]] = deque()
    with _captured_stderr() as stderr:
        # One process for all: what a codec leaks would show in the peak.
        pool = DecoderPool(RECIPE, parse_settings(**SETTINGS), images_per_process=count + 1)
        try:
            for data in damaged(fmt, count, seed):
                waiting.append((data, pool.submit(data)))
                if len(waiting) > IN_FLIGHT:
                    settle(tally, *waiting.popleft())
            while waiting:
                settle(tally, *waiting.popleft())
            tally.peak_mb = max(map(_peak_mb, psutil.Process().children()), default=0.0)
        finally:
            pool.close()
        tally.tracebacks = stderr.read_text(errors="replace").count("Traceback")
    tally.seconds = time.monotonic() - started
    return tally


def settle(tally: Tally, data: bytes, future: "Future[PreparedImage]") -> None:
    """Count what became of one picture."""
    try:
        future.result()
    except ImageDecoderCrashError as error:
        if "timed out" in error.detail:
            tally.hangs += 1
        else:
            tally.crashes.append(f"{error.detail} ({len(data)} bytes, {data[:40].hex()})")
    except (ImageError, Ungradable) as error:
        tally.outcomes[error.code] += 1
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        tally.crashes.append(f"{type(error).__name__}: {error}")
    else:
        tally.outcomes["prepared"] += 1


def _peak_mb(process: psutil.Process) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@contextmanager
def _captured_stderr() -> Iterator[Path]:
    """What this process and its children write to descriptor 2 goes to a file."""
    kept = os.dup(2)
    with tempfile.NamedTemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield Path(file.name)
        finally:
            os.dup2(kept, 2)
            os.close(kept)
