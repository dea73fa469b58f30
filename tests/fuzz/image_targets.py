"""Fuzz targets: damaged images in the header check, and in the decoding processes."""

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

from tests.fuzz.damaged_images import make_seed_images, mutate
from tests.fuzz.fuzz_result import HANG_TIMEOUT_S, FuzzResult, peak_memory_mb
from worker.core.dicom.pixel_hash import hash_pixels
from worker.core.errors import ImageDecoderCrashError, ImageError, Ungradable
from worker.core.settings import parse_settings
from worker.core.vocabulary import DicomAdmission
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
    "dicom_admit": ",".join(DicomAdmission),
}
IN_FLIGHT = 16


def damaged_images(fmt: str, count: int, seed: int) -> Iterator[bytes]:
    """Yield `count` damaged images of a format, the same for the same seed."""
    seeds, rng = make_seed_images(), random.Random(f"{fmt} {seed}")
    all_seeds = [data for kind in seeds.values() for data in kind]
    for _ in range(count):
        yield mutate(rng.choice(seeds[fmt]), all_seeds, rng)


def fuzz_headers(count: int, seed: int) -> FuzzResult:
    """Check that every image gives a header or an ImageError, and a DICOM file a hash or none, without a hang."""
    result, started = FuzzResult("header"), time.monotonic()
    formats = list(make_seed_images())
    for fmt in formats:
        for data in damaged_images(fmt, count // len(formats), seed):
            before = time.monotonic()
            try:
                hash_pixels(data)
                outcome = check_header(data, ImageLimits()).format.value
            except ImageError as error:
                outcome = error.code
            except Exception as error:  # noqa: BLE001 - any exception is a finding
                result.crashes.append(f"{type(error).__name__}: {error} for {data[:40].hex()}")
                continue
            if time.monotonic() - before > HANG_TIMEOUT_S:
                result.hangs += 1
            else:
                result.outcomes[outcome] += 1
    result.peak_mb, result.seconds = peak_memory_mb(), time.monotonic() - started
    return result


def fuzz_decoders(fmt: str, count: int, seed: int) -> FuzzResult:
    """Check that every image is prepared or raises ImageError or Ungradable, and that no decoding process crashes."""
    result, started = FuzzResult(f"decode {fmt}"), time.monotonic()
    pending: deque[tuple[bytes, Future[PreparedImage]]] = deque()
    with _captured_stderr() as stderr:
        # The processes are not replaced, so that the peak shows memory leaks of codecs.
        pool = DecoderPool(RECIPE, parse_settings(**SETTINGS), images_per_process=count + 1)
        try:
            for data in damaged_images(fmt, count, seed):
                pending.append((data, pool.submit(data)))
                if len(pending) > IN_FLIGHT:
                    count_outcome(result, *pending.popleft())
            while pending:
                count_outcome(result, *pending.popleft())
            result.peak_mb = max(map(_peak_mb, psutil.Process().children()), default=0.0)
        finally:
            pool.close()
        result.tracebacks = stderr.read_text(errors="replace").count("Traceback")
    result.seconds = time.monotonic() - started
    return result


def count_outcome(result: FuzzResult, data: bytes, future: "Future[PreparedImage]") -> None:
    """Count the outcome of one image."""
    try:
        future.result()
    except ImageDecoderCrashError as error:
        if "timed out" in error.detail:
            result.hangs += 1
        else:
            result.crashes.append(f"{error.detail} ({len(data)} bytes, {data[:40].hex()})")
    except (ImageError, Ungradable) as error:
        result.outcomes[error.code] += 1
    except Exception as error:  # noqa: BLE001 - any exception is a finding
        result.crashes.append(f"{type(error).__name__}: {error}")
    else:
        result.outcomes["prepared"] += 1


def _peak_mb(process: psutil.Process) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@contextmanager
def _captured_stderr() -> Iterator[Path]:
    """Redirect standard error of this process and its children to a file."""
    original = os.dup(2)
    with tempfile.NamedTemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield Path(file.name)
        finally:
            os.dup2(original, 2)
            os.close(original)
