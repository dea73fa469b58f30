"""SECURITY.md names files, settings and limits that exist."""

import re
from pathlib import Path

from worker.consumer.validation import MAX_BODY_BYTES
from worker.core.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SECURITY.md").read_text()


def test_every_file_it_names_is_there() -> None:
    named = re.findall(r"`((?:worker|producer|console|deploy|tests)/[^` ]*)`((?:, `\w+\.py`)*)", TEXT)
    assert len(named) > 10
    for path, siblings in named:
        assert (ROOT / path).exists(), path
        for name in re.findall(r"\w+\.py", siblings):
            assert ((ROOT / path).parent / name).exists(), f"{name} next to {path}"


def test_every_setting_it_names_is_there() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    named = set(re.findall(r"FUNDUS_[A-Z_]+", TEXT))
    assert named
    assert named <= known


def test_size_of_a_message_is_the_one_that_is_checked() -> None:
    assert f"JSON, {MAX_BODY_BYTES // 1024} KiB" in TEXT
