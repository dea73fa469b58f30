"""Validators of DICOM objects: dciodvfy of dicom3tools, and the one of PixelMed for structured reports."""

import os
import shutil
import subprocess
from pathlib import Path

DCIODVFY = shutil.which("dciodvfy")
RECOGNISED = {"Comprehensive3DSR", "SCImage", "OphthalmicPhotography8BitImage"}
PIXELMED = shutil.which("DicomSRValidator")
# The Debian build's style sheets exceed the limits that Java sets by default.
JAVA_OPTIONS = "-Djdk.xml.xpathExprGrpLimit=0 -Djdk.xml.xpathExprOpLimit=0 -Djdk.xml.xpathTotalOpLimit=0"


def why_no_pixelmed() -> str | None:
    """Return why PixelMed's validator cannot run on this machine, or None."""
    return None if PIXELMED is not None else "needs PixelMed's validator: apt-get install pixelmed-apps"


def find_dciodvfy_errors(file: Path) -> list[str]:
    """Return the errors of an object; its first line names what it was recognised as."""
    assert DCIODVFY is not None
    done = subprocess.run([DCIODVFY, file], capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    assert any(line in RECOGNISED for line in lines), lines
    return [line for line in lines if line.startswith("Error")]


def validate_report(file: Path) -> str:
    """Return what PixelMed says about a structured report."""
    assert PIXELMED is not None
    environment = os.environ | {"JAVA_TOOL_OPTIONS": JAVA_OPTIONS}
    done = subprocess.run([PIXELMED, file], capture_output=True, text=True, check=True, env=environment)
    return done.stdout + done.stderr
