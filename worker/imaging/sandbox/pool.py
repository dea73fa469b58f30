"""A pool of processes that turn untrusted bytes into prepared images.

A codec that crashes, hangs or exhausts its memory fails one image only. A process that the kernel kills may not be at
fault: several large images at a time may exceed the memory of the machine. So images reserve memory by their size, and
one whose process was killed is tried again, alone.

pebble 5.2 does not fit here: its pool breaks permanently when the kernel kills an idle process for memory, it imports
the worker's main module in each process, and it unpickles the responses of processes that have parsed hostile bytes.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TYPE_CHECKING

import structlog

from worker.core.deadlines import DeadlineMonitor
from worker.core.errors import ImageDecoderCrashError, ServiceError
from worker.core.process_hardening import find_missing_protections, forbid_inspection
from worker.imaging.sandbox.child_process import DecoderKilledError, DecoderProcess
from worker.imaging.sandbox.decoder_program import DecoderConfig
from worker.imaging.sandbox.memory_budget import MemoryBudget, estimate_memory_mb

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from worker.core.settings import Settings
    from worker.imaging.photograph import PreparedImage
    from worker.imaging.recipe import Recipe

DECODER_PROGRAM = ("-m", "worker.imaging.sandbox.decoder_program")
READER_PROGRAM = ("-m", "worker.imaging.sandbox.reader_program")
"""Prepares photographs for people, also ungradable ones; `overlay_size_px` is the largest side."""
IMAGES_PER_PROCESS = 1000
"""A process is replaced after this number of images, which bounds memory leaks of codecs."""

log = structlog.get_logger(__name__)


class DecoderPool:
    """`settings.decode_processes` decoding processes, each with a thread that communicates with it."""

    def __init__(
        self,
        recipe: Recipe,
        settings: Settings,
        *,
        extra_recipes: Sequence[Recipe] = (),
        program: Sequence[str] = DECODER_PROGRAM,
        images_per_process: int = IMAGES_PER_PROCESS,
    ) -> None:
        """Start the processes and wait until all are ready. Raises ServiceError if one does not start.

        extra_recipes: the other recipes of an ensemble. program: arguments of the Python interpreter; the program must
        call `decoder_program.serve`.
        """
        forbid_inspection()
        if missing := find_missing_protections():
            log.warning("decoders_not_isolated", missing=missing)
        self._program = program
        self._images_per_process = images_per_process
        self._timeout_s = settings.decode_timeout_s
        self._budget = MemoryBudget(settings.decode_budget_mb)
        self._config = DecoderConfig(
            recipe=recipe,
            extra_recipes=tuple(extra_recipes),
            overlay_size_px=settings.overlay_size_px,
            max_image_bytes=settings.max_image_bytes,
            max_image_pixels=settings.max_image_pixels,
            dicom_admissions=settings.dicom_admissions,
            memory_mb=settings.decode_memory_mb,
            parent_pid=os.getpid(),
        )
        self._deadlines = DeadlineMonitor()
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
        """Prepare one image.

        The future raises ImageError or Ungradable, or ImageDecoderCrashError if the image crashed its process.
        """
        return self._threads.submit(self._prepare, data)

    def close(self) -> None:
        """Finish all submitted images, then end the processes."""
        self._threads.shutdown()
        while not self._idle.empty():
            child = self._idle.get()
            if child is not None:
                child.close()
        self._deadlines.stop()

    def _start_one(self) -> None:
        self._idle.get()
        child = None
        try:
            child = DecoderProcess(self._program, self._config, self._deadlines)
        finally:
            self._idle.put(child)

    def _prepare(self, data: bytes) -> PreparedImage:
        child = self._idle.get()
        try:
            child = self._ensure_usable(child)
            try:
                with self._budget.reserve(estimate_memory_mb(data, self._config.memory_mb)):
                    return child.prepare(data, self._timeout_s)
            except DecoderKilledError as error:
                log.warning("decoder_killed", detail=error.detail)
            with self._budget.reserve(self._budget.total_mb):
                child = self._ensure_usable(child)
                return self._prepare_alone(child, data)
        finally:
            self._idle.put(child)

    def _prepare_alone(self, child: DecoderProcess, data: bytes) -> PreparedImage:
        try:
            return child.prepare(data, self._timeout_s)
        except DecoderKilledError as error:
            detail = f"{error.detail}, twice; the second time no other image was decoded"
            raise ImageDecoderCrashError(detail) from error

    def _ensure_usable(self, child: DecoderProcess | None) -> DecoderProcess:
        if child is not None and child.is_alive and child.images < self._images_per_process:
            return child
        if child is not None:
            child.close()
        return DecoderProcess(self._program, self._config, self._deadlines)
