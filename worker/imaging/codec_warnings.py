"""Capture the warnings that codecs print to standard error while they decode.

For a damaged scan libjpeg fills in grey blocks and only prints a warning, which OpenCV does not report. Without it, a
photograph that is half grey would be graded as if it were complete.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

STDERR = 2
MAX_BYTES = 4096

_stderr_lock = threading.Lock()


@dataclass(slots=True)
class CodecWarnings:
    """Captured text, at most MAX_BYTES of it; empty until the `with` block has ended."""

    text: str = ""


@contextmanager
def capture_codec_warnings() -> Iterator[CodecWarnings]:
    """Redirect the process's standard error while the block runs.

    For single-threaded processes only: output of other threads is captured, too.
    """
    warnings = CodecWarnings()
    with _stderr_lock:
        captured = os.memfd_create("codec-warnings")
        original = os.dup(STDERR)
        os.dup2(captured, STDERR)
        try:
            yield warnings
        finally:
            os.dup2(original, STDERR)
            os.close(original)
            warnings.text = os.pread(captured, MAX_BYTES, 0).decode("utf-8", "replace")
            os.close(captured)
