"""A worker's end of one decoding process: start it, ask it, and tell what became of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from worker.core.errors import ImageDecoderCrashError, ImageTooLargeError, ServiceError
from worker.imaging.sandbox.protocol import READY, read_response, response_size_bytes, write_request
from worker.imaging.sandbox.shared_memory import create_shared_memory, trim_shared_memory

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import IO

    from worker.imaging.photograph import PreparedImage
    from worker.imaging.sandbox.deadlines import DeadlineMonitor
    from worker.imaging.sandbox.decoder_program import DecoderConfig

START_TIMEOUT_S = 60.0
"""Importing OpenCV takes 0.3 s; a machine that is starting twenty of them on a cold disk takes longer."""
END_TIMEOUT_S = 5.0
PASSED_ON = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")
"""The rest of the environment may hold passwords, which a process that reads hostile bytes has no use for."""
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
MALLOC_ENVIRONMENT = {
    "GLIBC_TUNABLES": ":".join(
        f"glibc.malloc.{name}={value}"
        for name, value in {
            "mmap_threshold": 32 * 2**20,
            "trim_threshold": 128 * 2**20,
            "top_pad": 16 * 2**20,
            "hugetlb": 1,
        }.items()
    )
}
"""One photograph's pictures take the memory that the last one's had: pages given back and taken anew cost a tenth of
the work. What a larger picture took goes back to the system."""


class DecoderProcess:
    """One decoding process; used by one thread at a time."""

    def __init__(self, program: Sequence[str], job: DecoderConfig, deadlines: DeadlineMonitor) -> None:
        """Returns when the process is ready. Raises ServiceError if it does not come up.

        `deadlines` kills the process when an answer takes too long. The thread that starts it has to live as long as
        it: the process dies with its parent thread.
        """
        self._job = job
        self._timekeeper = deadlines
        self.images = 0
        self._sizes_px = [recipe.input_size_px for recipe in (job.recipe, *job.extra_recipes)]
        needed = response_size_bytes(input_sizes_px=self._sizes_px, overlay_size_px=job.overlay_size_px)
        descriptor, self._shared = create_shared_memory(max(job.max_image_bytes, needed))
        try:
            self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and program
                [sys.executable, "-P", *program, job.model_dump_json(), str(descriptor)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={name: os.environ[name] for name in PASSED_ON if name in os.environ}
                | ONE_THREAD
                | MALLOC_ENVIRONMENT,
                start_new_session=True,
                pass_fds=[descriptor],
            )
        finally:
            os.close(descriptor)
        self._requests, self._answers = cast("IO[bytes]", self.process.stdin), cast("IO[bytes]", self.process.stdout)
        with deadlines.enforce(START_TIMEOUT_S, self.process.kill):
            greeting = self._answers.read(len(READY))
        if greeting != READY:
            self.close()
            raise ServiceError(f"a decoding process did not start: {self._last_words()}", code="decoder_unavailable")

    def prepare(self, data: bytes, timeout_s: float) -> PreparedImage:
        """One prepared picture.

        Raises the picture's ImageError or Ungradable, and ImageDecoderCrashError if the process died of it.
        """
        if len(data) > self._job.max_image_bytes:
            raise ImageTooLargeError(f"{len(data):,} bytes, limit {self._job.max_image_bytes:,}")
        self.images += 1
        with self._timekeeper.enforce(timeout_s, self.process.kill) as deadline:
            try:
                write_request(self._requests, self._shared, data)
                return read_response(
                    self._answers,
                    self._shared,
                    input_sizes_px=self._sizes_px,
                    overlay_size_px=self._job.overlay_size_px,
                )
            except (EOFError, OSError) as error:
                self.close()  # Its pipes end a moment before it does; only then is it known what it died of.
                reason = f"gave no answer within {timeout_s:g} s" if deadline.expired else self._last_words()
                raise ImageDecoderCrashError(f"the decoder of {len(data):,} bytes {reason}") from error
            except ImageDecoderCrashError:
                # What follows on the stream is no answer to the next request.
                self.kill()
                raise
            finally:
                if not self._shared.closed:
                    trim_shared_memory(self._shared, len(data))

    @property
    def alive(self) -> bool:
        """Whether the process still runs; one that was idle may have been killed for memory."""
        return self.process.poll() is None

    def close(self) -> None:
        """Let the process end, which it does when there are no more requests."""
        self._close_pipes()
        try:
            self.process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the process whatever it does."""
        self.process.kill()
        self.process.wait()
        self._close_pipes()

    def _close_pipes(self) -> None:
        with suppress(BrokenPipeError):  # What a dead process did not read is of no use to anyone.
            self._requests.close()
        self._answers.close()
        self._shared.close()

    def _last_words(self) -> str:
        code = self.process.returncode
        return f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
