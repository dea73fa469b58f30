"""Small, slightly different photographs of eyes with a manifest of reference grades."""

from collections.abc import Sequence
from pathlib import Path

from tests.faults.numbered_photographs import write_photographs

GRADES = (0, 2, 1, 3, 4, 0, 2, 0)
"""Reference grades, assigned cyclically."""


def write_eyes(folder: Path, count: int, *, grades: Sequence[int] = GRADES) -> Path:
    """Write `count` photographs, two of each patient, and return their manifest `eyes.csv`."""
    write_photographs(folder, count)
    rows = [f"p{n:04}.png,p{n:04},patient-{n // 2},{grades[n % len(grades)]}" for n in range(count)]
    manifest = folder / "eyes.csv"
    manifest.write_text("\n".join(["uri,image_id,patient_id,reference_grade", *rows, ""]))
    return manifest
