"""Prometheus's configuration and alert rules, checked by promtool."""

import shutil
import subprocess
from pathlib import Path

import pytest

PROMETHEUS = Path(__file__).parents[2] / "deploy" / "prometheus"

pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="not installed: promtool")


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)


def test_configuration_and_rules_are_valid(tmp_path: Path) -> None:
    config = tmp_path / "prometheus.yml"
    config.write_text((PROMETHEUS / "prometheus.yml").read_text().replace("/etc/prometheus", str(PROMETHEUS)))
    done = promtool("check", "config", config)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 rule files found" in done.stdout


def test_alerts_fire_when_they_should() -> None:
    done = promtool("test", "rules", Path(__file__).with_name("alerts_test.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_invalid_rule_is_detected(tmp_path: Path) -> None:
    rules = tmp_path / "alerts.yml"
    rules.write_text(
        (PROMETHEUS / "alerts.yml").read_text().replace("fundus_ledger_up == 0", "fundus_ledger_up ==== 0")
    )
    assert promtool("check", "rules", rules).returncode != 0
