"""A broker that dies, stalls, forgets, repeats, shuffles, or carries what this version does not understand."""

import signal
from collections.abc import Sequence
from typing import Any

import pytest

from tests.faults.brokers import Change, Letter
from tests.faults.conftest import Record
from tests.faults.hooks import Hooks
from tests.faults.site import Site
from tests.faults.trial import trial


def impatient(site: Site) -> Hooks:
    """A consumer that has become deaf is ended by the watchdog."""
    return Hooks(folder=site.folder, stuck_after_s=5)


def test_emptied_broker_loses_no_image(light_of_each_broker: Site, small_bundle: Any, conclude: Record) -> None:
    site = light_of_each_broker
    with trial(site, small_bundle, images=120) as run:
        run.until_settled(0.1)
        run.strike()
        site.broker.empty()
        conclude(f"{site.broker.name}: emptied", run)


@pytest.mark.slow
@pytest.mark.parametrize("away_s", [0, 10])
def test_killed_broker_loses_no_image(
    away_s: float, full_of_each_broker: Site, small_bundle: Any, conclude: Record
) -> None:
    site = full_of_each_broker
    with trial(site, small_bundle, images=200, hooks=impatient(site)) as run:
        run.until_settled(0.1)
        run.strike()
        site.broker.daemon.kill()
        run.wait(away_s)
        site.broker.daemon.start()
        conclude(f"{site.broker.name}: kill -9, {away_s} s away", run)


@pytest.mark.slow
def test_restarted_broker_loses_no_image(full_of_each_broker: Site, small_bundle: Any, conclude: Record) -> None:
    site = full_of_each_broker
    with trial(site, small_bundle, images=400, hooks=impatient(site)) as run:
        for share in (0.1, 0.3, 0.5):
            run.until_settled(share)
            run.strike()
            site.broker.daemon.stop()
            site.broker.daemon.start()
        conclude(f"{site.broker.name}: restart", run)


@pytest.mark.slow
def test_broker_that_stops_answering_loses_no_image(
    full_of_each_broker: Site, small_bundle: Any, conclude: Record
) -> None:
    site = full_of_each_broker
    with trial(site, small_bundle, images=200, hooks=impatient(site)) as run:
        run.until_settled(0.1)
        run.strike()
        site.broker.daemon.pause()
        run.wait(30)
        site.broker.daemon.resume()
        conclude(f"{site.broker.name}: SIGSTOP for 30 s", run)


@pytest.mark.slow
def test_cut_connections_to_the_broker_lose_no_image(
    full_of_each_broker: Site, small_bundle: Any, conclude: Record
) -> None:
    site = full_of_each_broker
    with trial(site, small_bundle, images=400, hooks=impatient(site)) as run:
        for share in (0.1, 0.3, 0.5, 0.7):
            run.until_settled(share)
            run.strike()
            site.proxies["broker"].inject(None)
        conclude(f"{site.broker.name}: connections reset", run)


def duplicate(letters: Sequence[Letter]) -> Sequence[Letter]:
    return [letter for letter in letters for _ in range(2)]


def shuffle(letters: Sequence[Letter]) -> Sequence[Letter]:
    return sorted(letters, key=lambda letter: hash(letter.body[-40:]))


def of_another_version(letters: Sequence[Letter]) -> Sequence[Letter]:
    """One message becomes one of a version before the first, another one of a version to come."""
    return [letters[0].of_version(0), *letters[1:-1], letters[-1].of_version(2)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (duplicate, "every message twice"),
        (shuffle, "messages out of order"),
        (of_another_version, "an older and a newer message"),
    ],
)
def test_changed_queue_settles_every_image_once(
    change: Change, fault: str, full_of_each_broker: Site, small_bundle: Any, conclude: Record
) -> None:
    site = full_of_each_broker
    with trial(site, small_bundle, images=200) as run:
        run.until_settled(0.1)
        run.strike()
        run.supervisor.signal(0, signal.SIGSTOP)
        site.broker.rewrite(change)
        run.supervisor.signal(0, signal.SIGCONT)
        conclude(f"{site.broker.name}: {fault}", run)
