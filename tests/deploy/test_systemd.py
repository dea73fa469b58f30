import shutil
import subprocess
from pathlib import Path

import pytest

from worker.inference.watchdog import EXIT_STUCK

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "fundus-worker@.service"


def values(key: str) -> list[str]:
    lines = (line for line in UNIT.read_text().splitlines() if not line.startswith("#"))
    return [value for name, _, value in (line.partition("=") for line in lines) if name == key]


def test_each_instance_has_one_gpu_and_its_own_heartbeat() -> None:
    own = {"CUDA_VISIBLE_DEVICES=%i", "TMPDIR=/run/fundus-worker-%i"}
    assert set(values("Environment")) == own | {"XDG_CACHE_HOME=/var/cache"}
    assert values("RuntimeDirectory") == ["fundus-worker-%i"]
    (command,) = values("ExecStart")
    assert command.split()[1:] == ["worker", "--name", "gpu-%i", "$WORKER_OPTIONS"]


def test_compiled_networks_are_kept_where_nobody_else_writes() -> None:
    # `fundus/compiled` below XDG_CACHE_HOME is the default of FUNDUS_COMPILE_CACHE.
    assert (values("CacheDirectory"), values("CacheDirectoryMode")) == (["fundus"], ["0700"])


def test_worker_that_exited_is_restarted() -> None:
    assert EXIT_STUCK != 0
    assert values("Restart") == ["always"]
    assert values("SuccessExitStatus") == values("RestartPreventExitStatus") == []


def test_secrets_come_from_a_file_that_only_the_service_reads() -> None:
    assert values("EnvironmentFile") == ["/etc/fundus/fundus.env"]
    assert not any("FUNDUS_" in value for value in values("Environment"))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="not installed: systemd-analyze")
def test_unit_is_valid(tmp_path: Path) -> None:
    program = tmp_path / "fundus"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / "fundus-worker@0.service"
    unit.write_text(
        UNIT.read_text().replace("/opt/fundus/bin/fundus", str(program)).replace("User=fundus", "User=root")
    )
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
