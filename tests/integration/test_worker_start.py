"""A worker that cannot start logs the reason and exits."""

from pathlib import Path

import pytest

from tests.integration.processes import fundus

REFUSED = [
    ("FUNDUS_MODEL", "no-such-model", "no model bundle 'no-such-model'"),
    ("FUNDUS_OVERLAY_COLOURS", "mauve", "unknown colour map 'mauve'"),
    ("FUNDUS_MAX_BATCH_SIZE", "0", "FUNDUS_MAX_BATCH_SIZE"),
]


@pytest.mark.parametrize(("variable", "value", "sentence"), REFUSED)
def test_wrong_setting_ends_the_worker(
    variable: str, value: str, sentence: str, sqlite_url: str, broker_url: str
) -> None:
    env = {"FUNDUS_DATABASE_URL": sqlite_url, "FUNDUS_BROKER_URL": broker_url, variable: value}
    done = fundus("worker", env=env, check=False)
    assert done.returncode in (1, 2)
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_outdated_ledger_ends_the_worker(tmp_path: Path, broker_url: str) -> None:
    env = {"FUNDUS_DATABASE_URL": f"sqlite:///{tmp_path / 'empty.db'}", "FUNDUS_BROKER_URL": broker_url}
    done = fundus("worker", env=env, check=False)
    assert done.returncode == 1
    assert "run `fundus db upgrade`" in done.stderr


def test_error_names_the_missing_extra(tmp_path: Path, sqlite_url: str, broker_url: str) -> None:
    """Keras is hidden, as on the machine of a producer."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['keras'] = None\n")
    env = {"FUNDUS_DATABASE_URL": sqlite_url, "FUNDUS_BROKER_URL": broker_url, "PYTHONPATH": str(tmp_path)}
    done = fundus("worker", env=env, check=False)
    assert done.returncode == 2
    assert "the extra `worker`" in done.stderr.replace("\n", " ")
