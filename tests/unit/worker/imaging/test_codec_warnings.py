"""Warnings printed by C code are captured, and standard error is restored."""

import os
from pathlib import Path

import pytest

from worker.imaging.codec_warnings import STDERR, capture_codec_warnings


def test_text_written_by_c_code_is_captured_and_not_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with capture_codec_warnings() as warnings:
        os.write(STDERR, b"Corrupt JPEG data")
    os.write(STDERR, b"afterwards")
    assert warnings.text == "Corrupt JPEG data"
    assert capfd.readouterr().err == "afterwards"


def test_standard_error_is_restored_after_an_exception(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="broken"), capture_codec_warnings():
        raise ValueError("broken")
    os.write(STDERR, b"afterwards")
    assert capfd.readouterr().err == "afterwards"


def test_no_descriptor_is_left_open() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        with capture_codec_warnings():
            pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before
