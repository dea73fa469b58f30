"""The tests that docs/dicom.md names for each danger exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_each_danger_has_tests_that_exist() -> None:
    table = (ROOT / "docs" / "dicom.md").read_text().partition("## Dangers")[2]
    rows = re.findall(r"^\| (?!-|danger)(.+?) \| (.+) \|$", table, re.MULTILINE)
    assert len(rows) == 21
    for danger, named in rows:
        file = ""
        for name in re.findall(r"`([^`]+)`", named):
            file, _, test = name.rpartition("::") if "::" in name else (file, "", name)
            path = test if test.endswith(".py") else file
            (found,) = [one for one in (ROOT / "tests").rglob("*.py") if one.as_posix().endswith(f"/{path}")]
            assert test.endswith(".py") or f"def {test}(" in found.read_text(), f"{danger}: {name}"
