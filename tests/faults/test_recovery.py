"""How long the main faults last with the settings that ship; the other tests are in more of a hurry."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import Record
from tests.faults.site import QUICK, Site
from tests.faults.trial import Trial, trial


def kill_worker(site: Site, run: Trial) -> None:
    run.supervisor.signal(0, signal.SIGKILL)


def empty_broker(site: Site, run: Trial) -> None:
    site.broker.empty()


def take_database_away(site: Site, run: Trial) -> None:
    assert site.postgres is not None
    site.postgres.kill()
    run.wait(30)
    site.postgres.start()


def take_storage_away(site: Site, run: Trial) -> None:
    assert site.seaweedfs is not None
    site.seaweedfs.kill()
    run.wait(30)
    site.seaweedfs.start()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("fault", "longest_s"),
    [(kill_worker, 150), (empty_broker, 100), (take_database_away, 120), (take_storage_away, 150)],
)
def test_run_recovers_in_time_with_the_settings_that_ship(
    fault: Callable[[Site, Trial], None], longest_s: float, full: Site, small_bundle: Path, conclude: Record
) -> None:
    full.env = {name: value for name, value in full.env.items() if name not in QUICK}
    with trial(full, small_bundle, images=320) as run:
        run.until_settled(0.1)
        run.strike()
        fault(full, run)
        conclude(f"as shipped: {fault.__name__.replace('_', ' ')}", run, within_s=400)
        assert run.recovery_s() < longest_s
