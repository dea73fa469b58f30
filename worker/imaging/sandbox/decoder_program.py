"""The program of a decoding process: requests come in on standard input, answers go out on standard output.

It holds no secret and no connection, may use so much memory and no more, and ends with the worker that started it.
"""

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
from pydantic import BaseModel, ConfigDict

from worker.core.errors import ImageError, ImageTooLargeError, Ungradable
from worker.imaging.headers.header import ImageLimits
from worker.imaging.photograph import PreparedImage
from worker.imaging.recipe import Recipe
from worker.imaging.sandbox.protocol import READY, read_request, write_error, write_response
from worker.imaging.sandbox.shared_memory import open_shared_memory
from worker.imaging.steps.prepare import prepare_image

_PR_SET_PDEATHSIG = 1


class DecoderConfig(BaseModel):
    """What every picture of this process is prepared for; comes as JSON in the first argument."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Recipe
    extra_recipes: tuple[Recipe, ...] = ()
    """Of a model that has several recipes."""
    overlay_size_px: int
    max_image_bytes: int
    max_image_pixels: int
    memory_mb: int
    """Address space beyond what the program takes when it is ready, MiB."""
    parent: int
    """Process id of the worker."""


def serve(job: DecoderConfig, prepare_picture: Callable[[bytes], PreparedImage]) -> None:
    """Answer requests until standard input ends. An error that is nobody's to expect ends the process.

    The second argument of the program is the descriptor of the memory that it shares with the worker.
    """
    requests, answers, shared = sys.stdin.buffer, os.fdopen(os.dup(1), "wb"), open_shared_memory(int(sys.argv[2]))
    os.dup2(2, 1)  # What a library prints must not pass for an answer.
    cv2.setNumThreads(1)
    _end_with_parent(job.parent)
    _limit_memory(job.memory_mb)
    answers.write(READY)
    answers.flush()
    while (data := read_request(requests, shared)) is not None:
        try:
            prepared = _within_memory(prepare_picture, data)
        except (ImageError, Ungradable) as error:
            write_error(answers, error)
        else:
            write_response(answers, shared, prepared)


def _within_memory(prepare_picture: Callable[[bytes], PreparedImage], data: bytes) -> PreparedImage:
    detail = f"a picture of {len(data):,} bytes does not fit the decoder's memory"
    try:
        return prepare_picture(data)
    except MemoryError as error:
        raise ImageTooLargeError(detail) from error
    except cv2.error as error:
        if error.code != cv2.Error.StsNoMem:
            raise
        raise ImageTooLargeError(detail) from error


def _end_with_parent(parent: int) -> None:
    """Die when the worker dies, however it does; and only then, so that a warm shutdown can finish its images."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    failed = ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if failed or os.getppid() != parent:
        sys.exit(f"worker {parent} is gone")


def _limit_memory(memory_mb: int) -> None:
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = taken + memory_mb * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # A core dump would hold a patient's photograph.


def main() -> None:
    """Serve the job of the first argument."""
    job = DecoderConfig.model_validate_json(sys.argv[1])
    limits = ImageLimits(job.max_image_bytes, job.max_image_pixels)
    work = partial(
        prepare_image,
        recipe=job.recipe,
        extra_recipes=job.extra_recipes,
        overlay_size_px=job.overlay_size_px,
        limits=limits,
    )
    serve(job, work)


if __name__ == "__main__":
    main()
