"""Soak test: 20,000 photographs, a random fault every 30 s; all invariants hold and memory stays constant."""

import random
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import matplotlib.pyplot as plt
import psutil
import pytest

from tests.faults.conftest import Verify
from tests.faults.deployment import Deployment
from tests.faults.fault_run import FaultRun, fault_run
from tests.services.fault_proxy import Fault

IMAGES = 20_000
FAULT_EVERY_S = 30.0
SAMPLE_EVERY_S = 2.0
PLOT = Path(__file__).parents[2] / "docs" / "soak.png"


@dataclass(frozen=True)
class Sample:
    """State at one time: images settled, and process id and memory of worker 0 with its decoder processes."""

    at_s: float
    settled: int
    pid: int
    rss_mib: float


def faults(deployment: Deployment, run: FaultRun) -> dict[str, Callable[[], object]]:
    """Return the faults by name. None kills worker 0, whose memory is measured; its watchdog may end it."""
    assert deployment.postgres is not None
    assert deployment.seaweedfs is not None

    def restart(name: str) -> None:
        daemon = {"broker": deployment.broker.daemon, "database": deployment.postgres, "storage": deployment.seaweedfs}[
            name
        ]
        assert daemon is not None
        daemon.kill()
        daemon.start()

    def cut(name: str) -> None:
        deployment.proxies[name].inject(Fault("reset"), times=5)

    return {
        "worker killed": lambda: run.supervisor.signal(1, signal.SIGKILL),
        "worker stopped": lambda: run.supervisor.signal(1, signal.SIGTERM),
        "broker killed": lambda: restart("broker"),
        "broker emptied": deployment.broker.empty,
        "database killed": lambda: restart("database"),
        "storage killed": lambda: restart("storage"),
        "broker's connections cut": lambda: cut("broker"),
        "database's connections cut": lambda: cut("database"),
        "storage's connections cut": lambda: cut("storage"),
    }


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_random_faults_lose_nothing_and_memory_stays_constant(
    full: Deployment, small_bundle: Path, verify: Verify
) -> None:
    chance = random.Random(7)
    samples: list[Sample] = []
    injected: list[tuple[float, str]] = []
    # Larger batches and chunks than in other tests, as in a real night.
    env = {"FUNDUS_CHUNK_SIZE": "32", "FUNDUS_MAX_BATCH_SIZE": "16", "FUNDUS_MAX_ATTEMPTS": "5"}
    with fault_run(full, small_bundle, images=IMAGES, workers=2, env=env, suffix=".jpg") as run:
        started = time.monotonic()
        choices = faults(full, run)
        next_fault = FAULT_EVERY_S
        while run.settled() < IMAGES:
            now = time.monotonic() - started
            pid = run.supervisor.workers[0].pid
            samples.append(Sample(now, run.settled(), pid, rss_mib(pid)))
            if now > next_fault:
                name = chance.choice(sorted(choices))
                run.record_fault()
                injected.append((now, name))
                choices[name]()
                next_fault = now + FAULT_EVERY_S
            run.wait(SAMPLE_EVERY_S)
        draw(samples, injected)
        for at_s, name in injected:
            print(f"{at_s:7.1f} s  {name}")  # noqa: T201 - the injected faults
        verify(f"soak: {len(injected)} random faults in {samples[-1].at_s / 60:.1f} min", run, within_s=300)
    longest_life = max(Counter(sample.pid for sample in samples).items(), key=itemgetter(1))[0]
    life = [sample.rss_mib for sample in samples if sample.pid == longest_life]
    quarter = len(life) // 4
    early, late = statistics.median(life[quarter : 2 * quarter]), statistics.median(life[-quarter:])
    print(f"median memory of a worker: second quarter {early:.0f} MiB, last quarter {late:.0f} MiB")  # noqa: T201 - the measured memory
    assert late < 1.1 * early


def rss_mib(pid: int) -> float:
    """Return the resident memory of a process and its descendants; processes that have ended count as 0."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
    return total / 2**20


def draw(samples: list[Sample], injected: list[tuple[float, str]]) -> None:
    """Plot memory and settled images over time, with a line for each fault."""
    figure, (memory, settled) = plt.subplots(2, 1, sharex=True, figsize=(9, 5), layout="constrained")
    times = [sample.at_s / 60 for sample in samples]
    memory.plot(times, [sample.rss_mib for sample in samples], color="tab:blue")
    memory.set(ylabel="memory of a worker, MiB", ylim=(0, 1.2 * max(sample.rss_mib for sample in samples)))
    settled.plot(times, [sample.settled for sample in samples], color="tab:green")
    settled.set(ylabel="images settled", xlabel="minutes", ylim=(0, None))
    for axis in (memory, settled):
        axis.grid(visible=True, alpha=0.3)
        for at_s, _ in injected:
            axis.axvline(at_s / 60, color="tab:red", linewidth=0.8)
    memory.set_title("A run of 20,000 photographs; red: a random fault")
    figure.savefig(PLOT, dpi=110)
    plt.close(figure)
