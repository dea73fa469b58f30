from pathlib import Path

import pytest

from tests import failure_logs

pytest_plugins = ["pytester"]

CONFTEST = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[3])!r})
from pathlib import Path
from tests import failure_logs
from tests.services.stack import SERVER_FOLDER
failure_logs.FOLDER = Path("logs").absolute()
pytest_plugins = ["tests.failure_logs"]
def pytest_configure(config):
    servers = Path("servers").absolute()
    servers.mkdir()
    (servers / "valkey.log").write_text("old " * 300_000 + "end")
    config.stash[SERVER_FOLDER] = servers
"""
TESTS = """
def test_bad(tmp_path):
    (tmp_path / "worker.log").write_text("why")
    assert False
def test_good(tmp_path):
    (tmp_path / "worker.log").write_text("fine")
"""


def test_logs_of_failed_tests_are_kept_and_named_last(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_it=TESTS)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["logs of failed tests: *"])
    kept = pytester.path / "logs" / "test_it.py_test_bad"
    assert (kept / "worker.log").read_text() == "why"
    assert (kept / "valkey.log").read_text().endswith("end")
    assert (kept / "valkey.log").stat().st_size == failure_logs.MAX_LOG_BYTES
    assert [folder.name for folder in (pytester.path / "logs").iterdir()] == [kept.name]
