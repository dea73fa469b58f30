"""Wheel and sdist are complete and work in an environment without the source tree."""

import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from worker import __version__

ROOT = Path(__file__).parents[2]
PACKAGES = ("worker", "producer")
NAME = f"fundus_grading-{__version__}"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build wheel and sdist of this source tree and return their folder."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", folder], cwd=ROOT, check=True, capture_output=True
    )
    return folder


@pytest.fixture(scope="module")
def environment(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a virtual environment with the wheel and the libraries of this one, but without the source tree."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    with zipfile.ZipFile(built / f"{NAME}-py3-none-any.whl") as wheel:
        wheel.extractall(site)
    (site / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return folder


def tracked(*folders: str) -> set[str]:
    listed = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return set(listed.splitlines())


def run(environment: Path, *arguments: str) -> str:
    done = subprocess.run(
        [environment / "bin" / "python", "-m", "producer", *arguments],
        cwd=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_wheel_holds_every_file_of_the_packages(built: Path) -> None:
    with zipfile.ZipFile(built / f"{NAME}-py3-none-any.whl") as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        metadata = wheel.read(f"{NAME}.dist-info/METADATA").decode()
        entry_points = wheel.read(f"{NAME}.dist-info/entry_points.txt").decode()
    assert names == tracked(*PACKAGES)
    assert f"Version: {__version__}\n" in metadata
    assert "fundus = producer.cli:main" in entry_points


def test_sdist_holds_what_the_wheel_is_built_from(built: Path) -> None:
    with tarfile.open(built / f"{NAME}.tar.gz") as sdist:
        names = {name.removeprefix(f"{NAME}/") for name in sdist.getnames()}
    assert tracked(*PACKAGES, "pyproject.toml", "README.md", "LICENSE", "tests/unit", "docs") <= names


def test_installed_program_reports_its_version_model_and_ledger(environment: Path) -> None:
    shown = run(environment, "--version")
    assert shown.splitlines()[0] == f"fundus {__version__}"
    assert "model_id" in shown
    where = "import worker; print(worker.__file__)"
    python = environment / "bin" / "python"
    found = subprocess.run([python, "-c", where], cwd=environment, check=True, capture_output=True, text=True).stdout
    assert found.startswith(str(environment))


def test_installed_program_creates_a_ledger_and_finds_its_sample_photographs(environment: Path) -> None:
    samples = environment / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    run(environment, "db", "upgrade")
    shown = run(environment, "enqueue", str(samples / "producer/demo/samples/manifest.csv"), "--run", "r", "--dry-run")
    assert "13" in shown


def test_changelog_has_a_dated_section_for_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert f"\n## {__version__} - 20" in text
