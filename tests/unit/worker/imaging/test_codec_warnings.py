"""What a codec prints in C is heard, and the process's own standard error comes back."""

import os
from pathlib import Path

import pytest

from worker.imaging.codec_warnings import STDERR, capture_codec_warnings


def test_text_written_below_python_is_heard_and_not_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with capture_codec_warnings() as complaints:
        os.write(STDERR, b"Corrupt JPEG data")
    os.write(STDERR, b"afterwards")
    assert complaints.text == "Corrupt JPEG data"
    assert capfd.readouterr().err == "afterwards"


def test_standard_error_comes_back_after_a_fault(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="fault"), capture_codec_warnings():
        raise ValueError("fault")
    os.write(STDERR, b"afterwards")
    assert capfd.readouterr().err == "afterwards"


def test_no_descriptor_is_left_open() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        with capture_codec_warnings():
            pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before
