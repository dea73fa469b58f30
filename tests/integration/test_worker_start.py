"""A worker that cannot work says why and ends."""

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


def test_ledger_of_another_level_ends_the_worker(tmp_path: Path, broker_url: str) -> None:
    env = {"FUNDUS_DATABASE_URL": f"sqlite:///{tmp_path / 'empty.db'}", "FUNDUS_BROKER_URL": broker_url}
    done = fundus("worker", env=env, check=False)
    assert done.returncode == 1
    assert "run `fundus db upgrade`" in done.stderr


def test_machine_without_the_extra_is_told_its_name(tmp_path: Path, sqlite_url: str, broker_url: str) -> None:
    """As on a producer's machine: no TensorFlow to be found."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Hidden:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'tensorflow':\n"
        "            raise ModuleNotFoundError(\"No module named 'tensorflow'\", name=name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
    )
    env = {"FUNDUS_DATABASE_URL": sqlite_url, "FUNDUS_BROKER_URL": broker_url, "PYTHONPATH": str(tmp_path)}
    done = fundus("worker", env=env, check=False)
    assert done.returncode == 2
    assert "the extra `worker`" in done.stderr.replace("\n", " ")
