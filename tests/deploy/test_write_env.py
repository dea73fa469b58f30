import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.write_env import EXAMPLE, write_env

ROOT = Path(__file__).parents[2]


def test_every_placeholder_gets_its_own_secret(tmp_path: Path) -> None:
    write_env(tmp_path / ".env")
    written = (tmp_path / ".env").read_text()
    secrets = re.findall(r"(?m)^\w+=(?:\w+:)?([0-9a-f]{48})$", written)
    assert len(secrets) == len(set(secrets)) == 8
    assert re.sub(r"[0-9a-f]{48}", "change-me", written) == EXAMPLE.read_text()


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    write_env(tmp_path / ".env")
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600


def test_existing_secrets_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("POSTGRES_PASSWORD=in-use\n")
    with pytest.raises(FileExistsError):
        write_env(tmp_path / ".env")
    done = subprocess.run(
        [sys.executable, ROOT / "deploy" / "write_env.py", tmp_path / ".env"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "exists and is not replaced" in done.stderr
    assert (tmp_path / ".env").read_text() == "POSTGRES_PASSWORD=in-use\n"
