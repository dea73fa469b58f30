"""The program of a decoding process: reads requests from standard input, writes responses to standard output.

It holds no secrets and no connections, its memory is limited, it can reach nothing else, and it ends with the worker
that started it.
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
from worker.core.vocabulary import DicomAdmission
from worker.imaging.headers.header import ImageLimits
from worker.imaging.photograph import PreparedImage
from worker.imaging.recipe import Recipe
from worker.imaging.sandbox.isolation import isolate
from worker.imaging.sandbox.protocol import READY, read_request, write_error, write_response
from worker.imaging.sandbox.shared_memory import open_shared_memory
from worker.imaging.steps.prepare import prepare_image

_PR_SET_PDEATHSIG = 1


class DecoderConfig(BaseModel):
    """Configuration of a decoding process, passed as JSON in its first argument."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Recipe
    extra_recipes: tuple[Recipe, ...] = ()
    """The other recipes of an ensemble."""
    overlay_size_px: int
    max_image_bytes: int
    max_image_pixels: int
    dicom_admissions: frozenset[DicomAdmission] = frozenset()
    """DICOM instances to decode in addition to colour photographs."""
    memory_mb: int
    """Limit on the address space beyond that of the idle program, MiB."""
    parent_pid: int
    """Process id of the worker."""

    @property
    def limits(self) -> ImageLimits:
        """The largest file and the largest picture that are decoded."""
        return ImageLimits(self.max_image_bytes, self.max_image_pixels)


def serve(config: DecoderConfig, prepare: Callable[[bytes], PreparedImage]) -> None:
    """Answer requests until standard input ends. An unexpected error ends the process.

    The program's second argument is the file descriptor of the memory shared with the worker.
    """
    requests, responses, shared = sys.stdin.buffer, os.fdopen(os.dup(1), "wb"), open_shared_memory(int(sys.argv[2]))
    os.dup2(2, 1)  # Output of libraries must not be read as a response.
    cv2.setNumThreads(1)
    _end_with_parent(config.parent_pid)
    _limit_memory(config.memory_mb)
    isolate()
    responses.write(READY)
    responses.flush()
    while (data := read_request(requests, shared)) is not None:
        try:
            prepared = _prepare_within_memory(prepare, data)
        except (ImageError, Ungradable) as error:
            write_error(responses, error)
        else:
            write_response(responses, shared, prepared)


def _prepare_within_memory(prepare: Callable[[bytes], PreparedImage], data: bytes) -> PreparedImage:
    detail = f"decoding {len(data):,} bytes exceeds the decoder's memory limit"
    try:
        return prepare(data)
    except MemoryError as error:
        raise ImageTooLargeError(detail) from error
    except cv2.error as error:
        if error.code != cv2.Error.StsNoMem:
            raise
        raise ImageTooLargeError(detail) from error


def _end_with_parent(parent_pid: int) -> None:
    """End when the worker ends, for whatever reason, and not before: a warm shutdown finishes its images."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    failed = ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if failed or os.getppid() != parent_pid:
        sys.exit(f"worker {parent_pid} has ended")


def _limit_memory(memory_mb: int) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + memory_mb * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> None:
    """Prepare images as configured by the first argument."""
    config = DecoderConfig.model_validate_json(sys.argv[1])
    serve(
        config,
        partial(
            prepare_image,
            recipe=config.recipe,
            extra_recipes=config.extra_recipes,
            overlay_size_px=config.overlay_size_px,
            limits=config.limits,
            admitted=config.dicom_admissions,
        ),
    )


if __name__ == "__main__":
    main()
