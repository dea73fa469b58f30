"""The worker's side of one decoding process: start it, send requests, and report why it ended."""

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

    from worker.core.deadlines import DeadlineMonitor
    from worker.imaging.photograph import PreparedImage
    from worker.imaging.sandbox.decoder_program import DecoderConfig

START_TIMEOUT_S = 60.0
"""Importing OpenCV takes 0.3 s; twenty processes on a cold disk take longer."""
SHUTDOWN_TIMEOUT_S = 5.0
INHERITED_VARIABLES = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")
"""The rest of the environment may hold passwords, which a process that parses hostile bytes must not see."""
SINGLE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
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
"""glibc keeps freed pages for the next photograph: returning and faulting them in again takes a tenth of the time.
Larger allocations are returned to the system."""


class DecoderKilledError(ImageDecoderCrashError):
    """The process was killed with SIGKILL, and not by the worker: the kernel does so when memory runs out."""


class DecoderProcess:
    """One decoding process; used by one thread at a time."""

    def __init__(self, program: Sequence[str], config: DecoderConfig, deadlines: DeadlineMonitor) -> None:
        """Start the process and wait until it is ready. Raises ServiceError if it does not start.

        deadlines: kills the process when a response takes too long. The calling thread must outlive the process, which
        ends with its parent thread.
        """
        self._config = config
        self._deadlines = deadlines
        self.images = 0
        self._input_sizes_px = [recipe.input_size_px for recipe in (config.recipe, *config.extra_recipes)]
        needed = response_size_bytes(input_sizes_px=self._input_sizes_px, overlay_size_px=config.overlay_size_px)
        descriptor, self._shared = create_shared_memory(max(config.max_image_bytes, needed))
        try:
            self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and program
                [sys.executable, "-P", *program, config.model_dump_json(), str(descriptor)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={name: os.environ[name] for name in INHERITED_VARIABLES if name in os.environ}
                | SINGLE_THREAD
                | MALLOC_ENVIRONMENT,
                start_new_session=True,
                pass_fds=[descriptor],
            )
        finally:
            os.close(descriptor)
        self._requests, self._responses = cast("IO[bytes]", self.process.stdin), cast("IO[bytes]", self.process.stdout)
        with deadlines.enforce(START_TIMEOUT_S, self._kill_group):
            ready = self._responses.read(len(READY)) == READY
        if not ready:
            self.close()
            raise ServiceError(f"a decoding process did not start: {self._describe_exit()}", code="decoder_unavailable")

    def prepare(self, data: bytes, timeout_s: float) -> PreparedImage:
        """Prepare one image.

        Raises ImageError or Ungradable for the image, ImageDecoderCrashError if the process crashed or timed out, and
        DecoderKilledError if it was killed.
        """
        if len(data) > self._config.max_image_bytes:
            raise ImageTooLargeError(f"{len(data):,} bytes, limit {self._config.max_image_bytes:,}")
        self.images += 1
        with self._deadlines.enforce(timeout_s, self._kill_group) as deadline:
            try:
                write_request(self._requests, self._shared, data)
                return read_response(
                    self._responses,
                    self._shared,
                    input_sizes_px=self._input_sizes_px,
                    overlay_size_px=self._config.overlay_size_px,
                )
            except (EOFError, OSError) as error:
                self.close()  # The pipes close shortly before the exit status is known.
                reason = f"timed out after {timeout_s:g} s" if deadline.expired else self._describe_exit()
                killed = self.process.returncode == -signal.SIGKILL and not deadline.expired
                kind = DecoderKilledError if killed else ImageDecoderCrashError
                raise kind(f"decoder {reason} (image of {len(data):,} bytes)") from error
            except ImageDecoderCrashError:
                # The stream is out of step: what follows is not the response to the next request.
                self.kill()
                raise
            finally:
                if not self._shared.closed:
                    trim_shared_memory(self._shared, len(data))

    @property
    def is_alive(self) -> bool:
        """Whether the process is running. The kernel may have killed an idle one for memory."""
        return self.process.poll() is None

    def close(self) -> None:
        """Close the pipes, at which the process ends; kill it if it does not."""
        self._close_pipes()
        try:
            self.process.wait(SHUTDOWN_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
        else:
            self._kill_group()

    def kill(self) -> None:
        """Kill the process and all that it has started."""
        self._kill_group()
        self.process.wait()
        self._close_pipes()

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError):  # all have ended
            os.killpg(self.process.pid, signal.SIGKILL)

    def _close_pipes(self) -> None:
        with suppress(BrokenPipeError):  # The process ended before it had read the request.
            self._requests.close()
        self._responses.close()
        self._shared.close()

    def _describe_exit(self) -> str:
        code = self.process.returncode
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with status {code}"
