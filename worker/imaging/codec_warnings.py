"""Hear what codecs write to standard error while they decode.

libjpeg decodes a damaged scan to grey blocks and only prints a warning, which OpenCV does not pass on. The warning is
heard here because half a retina in grey would be graded as if it were whole.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

STDERR = 2

_one_at_a_time = threading.Lock()


@dataclass(slots=True)
class CodecWarnings:
    """`text` is complete when the block that listened is left."""

    text: str = ""


@contextmanager
def capture_codec_warnings() -> Iterator[CodecWarnings]:
    """Divert the process's standard error while the block runs: decode in a process of its own.

    What other threads print in the meantime is taken for a complaint, so a process with threads should not call this.
    """
    complaints = CodecWarnings()
    with _one_at_a_time:
        printed = os.memfd_create("codec-complaints")
        kept = os.dup(STDERR)
        os.dup2(printed, STDERR)
        try:
            yield complaints
        finally:
            os.dup2(kept, STDERR)
            os.close(kept)
            complaints.text = os.pread(printed, 4096, 0).decode("utf-8", "replace")
            os.close(printed)
