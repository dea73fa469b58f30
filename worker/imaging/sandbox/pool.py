"""A pool of processes that turn untrusted bytes into prepared images.

A codec that crashes, hangs or eats memory costs the image that made it so. The pool is our own because pebble 5.2 gives
up for good when an idle process is killed (by the kernel, for memory), imports the worker's main module again in every
process, and unpickles what a process answers that has just read hostile bytes.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TYPE_CHECKING

from worker.core.errors import ServiceError
from worker.imaging.sandbox.child_process import DecoderProcess
from worker.imaging.sandbox.deadlines import DeadlineMonitor
from worker.imaging.sandbox.decoder_program import DecoderConfig

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from worker.core.settings import Settings
    from worker.imaging.photograph import PreparedImage
    from worker.imaging.recipe import Recipe

DECODER_PROGRAM = ("-m", "worker.imaging.sandbox.decoder_program")
VIEWER_PROGRAM = ("-m", "worker.imaging.sandbox.viewer_program")
"""Draws what cannot be graded, too, and prepares nothing for a network."""
IMAGES_PER_PROCESS = 1000
"""Then the process is replaced, which bounds what a codec can leak."""


class DecoderPool:
    """`settings.decode_processes` processes, each with a thread that talks to it."""

    def __init__(
        self,
        recipe: Recipe,
        settings: Settings,
        *,
        extra_recipes: Sequence[Recipe] = (),
        program: Sequence[str] = DECODER_PROGRAM,
        images_per_process: int = IMAGES_PER_PROCESS,
    ) -> None:
        """Returns when all processes are ready. Raises ServiceError if one does not come up.

        extra_recipes: further recipes of an ensemble. program: interpreter arguments of a process; the program has to
        call `decoder_program.serve`.
        """
        self._program = program
        self._images_per_process = images_per_process
        self._timeout_s = settings.decode_timeout_s
        self._job = DecoderConfig(
            recipe=recipe,
            extra_recipes=tuple(extra_recipes),
            overlay_size_px=settings.overlay_size_px,
            max_image_bytes=settings.max_image_bytes,
            max_image_pixels=settings.max_image_pixels,
            memory_mb=settings.decode_memory_mb,
            parent=os.getpid(),
        )
        self._timekeeper = DeadlineMonitor()
        count = settings.decode_processes
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="decoder")
        self._idle: SimpleQueue[DecoderProcess | None] = SimpleQueue()
        for _ in range(count):
            self._idle.put(None)
        starts = [self._threads.submit(self._start_one) for _ in range(count)]
        try:
            for start in starts:
                start.result()
        except ServiceError:
            self.close()
            raise

    def submit(self, data: bytes) -> Future[PreparedImage]:
        """The prepared image, or its ImageError or Ungradable; ImageDecoderCrashError if a process died of it."""
        return self._threads.submit(self._prepare, data)

    def close(self) -> None:
        """Finish what was submitted, then end the processes."""
        self._threads.shutdown()
        while not self._idle.empty():
            child = self._idle.get()
            if child is not None:
                child.close()
        self._timekeeper.stop()

    def _start_one(self) -> None:
        self._idle.get()
        child = None
        try:
            child = DecoderProcess(self._program, self._job, self._timekeeper)
        finally:
            self._idle.put(child)

    def _prepare(self, data: bytes) -> PreparedImage:
        child = self._idle.get()
        try:
            child = self._usable(child)
            return child.prepare(data, self._timeout_s)
        finally:
            self._idle.put(child)

    def _usable(self, child: DecoderProcess | None) -> DecoderProcess:
        if child is not None and child.alive and child.images < self._images_per_process:
            return child
        if child is not None:
            child.close()
        return DecoderProcess(self._program, self._job, self._timekeeper)
