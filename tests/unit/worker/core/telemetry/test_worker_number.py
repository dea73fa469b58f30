import subprocess
import sys
from pathlib import Path

CLAIM = """
import sys
from pathlib import Path
from worker.core.telemetry.worker_number import claim_worker_number
print(claim_worker_number(Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


def start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CLAIM, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def number_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_restarted_worker_gets_the_number_that_it_had(tmp_path: Path) -> None:
    folder = tmp_path / "workers"
    started = [start(folder), start(folder)]
    try:
        numbers = [number_of(process) for process in started]
        assert sorted(numbers) == ["1", "2"]
        started[0].kill()
        started[0].wait()
        started.append(start(folder))
        assert number_of(started[-1]) == numbers[0]
    finally:
        for process in started:
            process.kill()
            process.communicate()
