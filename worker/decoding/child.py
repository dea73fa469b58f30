"""A worker's end of one decoding process: start it, ask it, and tell what became of it."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, cast

from worker.contract.errors import ImageDecoderCrashError, ServiceError
from worker.decoding.wire import READY, read_answer, write_request

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import IO

    from worker.decoding.process import Job
    from worker.items import Prepared

START_TIMEOUT_S = 60.0
"""Importing OpenCV takes 0.3 s; a machine that is starting twenty of them on a cold disk takes longer."""
END_TIMEOUT_S = 5.0
PIPE_BYTES = 2**20
"""A picture of 1.2 MB takes two turns of the processes and not twenty."""
PASSED_ON = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")
"""The rest of the environment may hold passwords, which a process that reads hostile bytes has no use for."""
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class DecoderChild:
    """One decoding process; used by one thread at a time."""

    def __init__(self, program: Sequence[str], job: Job) -> None:
        """Returns when the process is ready. Raises ServiceError if it does not come up.

        The thread that starts it has to live as long as it: the process dies with its parent thread.
        """
        self._job = job
        self.images = 0
        self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and program
            [sys.executable, "-P", *program, job.model_dump_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={name: os.environ[name] for name in PASSED_ON if name in os.environ} | ONE_THREAD,
            start_new_session=True,
        )
        self._requests, self._answers = cast("IO[bytes]", self.process.stdin), cast("IO[bytes]", self.process.stdout)
        for pipe in (self._requests, self._answers):
            with suppress(OSError):  # A user may have only so many bytes of pipes; it works with few, too.
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        with self._killed_after(START_TIMEOUT_S):
            greeting = self._answers.read(len(READY))
        if greeting != READY:
            self.close()
            raise ServiceError(f"a decoding process did not start: {self._last_words()}", code="decoder_unavailable")

    def prepare(self, data: bytes, timeout_s: float) -> Prepared:
        """One prepared picture.

        Raises the picture's ImageError or Ungradable, and ImageDecoderCrashError if the process died of it.
        """
        self.images += 1
        sizes_px = [recipe.input_size_px for recipe in (self._job.recipe, *self._job.further)]
        timed_out = threading.Event()
        try:
            with self._killed_after(timeout_s, timed_out):
                write_request(self._requests, data)
                return read_answer(self._answers, input_sizes_px=sizes_px, overlay_size_px=self._job.overlay_size_px)
        except (EOFError, OSError) as error:
            self.close()  # Its pipes end a moment before it does; only then is it known what it died of.
            reason = f"gave no answer within {timeout_s:g} s" if timed_out.is_set() else self._last_words()
            raise ImageDecoderCrashError(f"the decoder of {len(data):,} bytes {reason}") from error
        except ImageDecoderCrashError:
            # What follows on the stream is no answer to the next request.
            self.kill()
            raise

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

    @contextmanager
    def _killed_after(self, timeout_s: float, timed_out: threading.Event | None = None) -> Iterator[None]:
        def kill() -> None:
            if timed_out is not None:
                timed_out.set()
            self.process.kill()

        timer = threading.Timer(timeout_s, kill)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()  # A late kill must hit this process, known to be late, and not surprise its next image.

    def _last_words(self) -> str:
        code = self.process.returncode
        return f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
