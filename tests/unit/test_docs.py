"""README and docs/ agree with the program."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from docs.make_diagrams import generated_diagrams
from docs.make_docs import generated_pages
from producer.cli import COMMANDS, app
from worker.core.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def names(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", generated_pages(), ids=names)
def test_reference_page_is_current(path: Path) -> None:
    current = path.read_text() == generated_pages()[path]
    assert current, "run: python -m docs.make_docs"


@pytest.mark.parametrize("path", generated_diagrams(), ids=names)
def test_diagram_is_current(path: Path) -> None:
    current = path.read_text() == generated_diagrams()[path]
    assert current, "run: python -m docs.make_diagrams"


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_command_named_on_a_page_exists(page: Path) -> None:
    known = {command.name for command in COMMANDS}
    named = set(re.findall(r"(?:`|\$ |^)fundus ([a-z][a-z-]*)", page.read_text(), re.MULTILINE))
    assert named <= known


def test_every_setting_named_on_a_page_or_in_a_deployment_exists() -> None:
    # A program does not start with an unknown setting.
    deployment = [
        path for path in (ROOT / "deploy").rglob("*") if path.is_file() and path.suffix not in {".txt", ".pyc"}
    ]
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    named = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in (*PAGES, *deployment, ROOT / "docker-compose.yml", ROOT / "Makefile")
        for name in re.findall(rf"{PREFIX}[A-Z0-9_]*[A-Z0-9](?![A-Z0-9_*])", path.read_text())
        if name not in known
    }
    assert named == set()


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_subcommand_named_on_a_page_exists(page: Path) -> None:
    root = typer.main.get_command(app)
    for group, name in re.findall(r"(?:`|\$ |^)fundus (model|db|console) ([a-z-]+)", page.read_text(), re.MULTILINE):
        _, command, _ = root.resolve_command(typer.Context(root), [group])
        assert name in command.commands


def test_every_command_is_in_the_command_reference() -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    assert [command.name for command in COMMANDS if f"`fundus {command.name}" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_links_of_a_page_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_generated_pages_do_not_depend_on_this_machine() -> None:
    for text in generated_pages().values():
        assert str(ROOT) not in text
        assert str(Path.home()) + "/" not in text


def test_readme_is_short_and_light() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= 160
    pictures = [ROOT / target for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)]
    assert pictures
    assert sum(picture.stat().st_size for picture in pictures) < 600_000


def test_site_builds_without_dead_links_and_orphans(tmp_path: Path) -> None:
    properdocs = Path(sys.executable).with_name("properdocs")
    done = subprocess.run(
        [
            properdocs,
            "build",
            "--quiet",
            "--strict",
            "--config-file",
            ROOT / "mkdocs.yml",
            "--site-dir",
            tmp_path / "site",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "architecture.html").exists()
