import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from pkgutil import iter_modules, walk_packages

import pytest

import producer.commands
import worker
import worker.core

ROOT = Path(__file__).parents[2]
HEAVY = {"tensorflow", "keras", "cv2", "h5py", "safetensors", "pyarrow"}
UNLOCKED = {"fundus-grading", "attrs", "certifi", "cffi", "greenlet", "psutil", "pyyaml", "setuptools", "tornado"}
"""The project itself, and optional dependencies of its libraries."""
LOADED = (
    "import importlib, json, sys; [importlib.import_module(n) for n in sys.argv[1:]]; print(json.dumps([*sys.modules]))"
)


DIRECT_WRITE = re.compile(r"\.write_(text|bytes)\(|\.savefig\((?!buffer,)|\bopen\(.*[\"'][wxa]b?[\"']")
WRITERS = {
    "worker/model/bundle/writer.py": "a bundle is read by workers of other users",
    "worker/core/storage/private_file.py": "sets the mode",
    "worker/evaluation/figure_file.py": "renders into memory",
    "producer/demo/embedded_valkey.py": "a log",
    "producer/demo/run_demo.py": "a log",
}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def loaded_by(*modules: str) -> set[str]:
    """The packages that a fresh interpreter holds once it has imported `modules`."""
    done = subprocess.run([sys.executable, "-c", LOADED, *modules], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


def distributions_of(packages: set[str]) -> set[str]:
    # Asked for once: each time it reads the metadata of everything that is installed.
    found = packages_distributions()
    return {canonical(name) for package in packages for name in found.get(package, ())}


def test_imports_follow_the_contracts_of_the_project() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache", "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_of_the_worker_has_its_layer() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    placed = {name for layer in layers for name in re.split(r"[ |:]+", layer)}
    present = {f"worker.{module.name}" for module in iter_modules(worker.__path__)}
    assert placed == present | {"producer"}


def test_files_are_written_by_functions_that_set_their_mode() -> None:
    paths = [path for package in ("producer", "worker") for path in (ROOT / package).rglob("*.py")]
    found = {
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in paths
        if str(path.relative_to(ROOT)) not in WRITERS
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if DIRECT_WRITE.search(line)
    }
    assert found == set()


@pytest.mark.parametrize("module", ["producer.cli", "producer.demo.run_demo", "producer.doctor.checkup"])
def test_producers_machine_needs_no_heavy_library(module: str) -> None:
    assert loaded_by(module) & HEAVY == set()


def test_producers_lock_holds_all_that_a_producer_loads() -> None:
    commands = [module.name for module in iter_modules(producer.commands.__path__, "producer.commands.")]
    loaded = loaded_by("producer.cli", *commands, "worker.app", "kombu.transport.redis", "psycopg", "alembic.command")
    locked = {
        canonical(name)
        for name in re.findall(r"^([\w.-]+)==", (ROOT / "deploy/locks/producer.txt").read_text(), re.MULTILINE)
    }
    needed = distributions_of(loaded)
    assert needed - locked <= UNLOCKED
    assert len(needed) > 20


def test_consoles_lock_holds_all_that_the_console_loads() -> None:
    loaded = loaded_by(
        "producer.cli",
        "worker.console.commands.serve",
        "worker.console.commands.user",
        "worker.imaging.sandbox.reader_program",
        "psycopg",
    )
    assert loaded & HEAVY == {"cv2"}
    locked = {
        canonical(name)
        for name in re.findall(r"^([\w.-]+)==", (ROOT / "deploy/locks/console.txt").read_text(), re.MULTILINE)
    }
    needed = distributions_of(loaded)
    assert needed - locked <= UNLOCKED
    assert {"starlette", "uvicorn", "argon2-cffi"} <= needed


def test_contract_needs_no_heavy_library() -> None:
    modules = [
        module.name
        for module in walk_packages(worker.core.__path__, "worker.core.")
        # Alembic's own environment: only Alembic can run it.
        if ".migrations." not in module.name
    ]
    assert "worker.core.messaging.broker" in modules
    assert loaded_by(*modules) & HEAVY == set()
