"""README tells the truth about settings and commands."""

import re
import subprocess

from docs.make_docs import README, readme_with_table
from tests.integration.processes import FUNDUS


def test_table_of_settings_is_the_programs_own() -> None:
    text = README.read_text()
    assert readme_with_table(text) == text, "run: python -m docs.make_docs"


def test_every_command_named_in_readme_exists() -> None:
    named = set(re.findall(r"`fundus ([a-z][a-z-]*)", README.read_text()))
    shown = subprocess.run([FUNDUS, "--help"], capture_output=True, text=True, check=True).stdout
    assert named - {name for name in named if re.search(rf"^│ {name} ", shown, re.MULTILINE)} == set()


def test_every_command_is_named_in_readme() -> None:
    shown = subprocess.run([FUNDUS, "--help"], capture_output=True, text=True, check=True).stdout
    commands = set(re.findall(r"^│ ([a-z][a-z-]*) ", shown, re.MULTILINE))
    assert commands
    assert [name for name in sorted(commands) if f"`fundus {name}" not in README.read_text()] == []


def test_pictures_and_links_of_readme_are_there() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README.read_text())
    for target in targets:
        assert (README.parent / target).exists(), target
    pictures = [README.parent / target for target in targets if target.endswith((".webp", ".png"))]
    assert len(pictures) >= 6
    assert sum(picture.stat().st_size for picture in pictures) < 600_000
