"""A broker that dies, stalls, or loses, duplicates, reorders or changes messages."""

import signal
from collections.abc import Sequence
from typing import Any

import pytest

from tests.faults.brokers import Change, QueuedMessage
from tests.faults.conftest import Verify
from tests.faults.deployment import Deployment
from tests.faults.fault_run import fault_run
from tests.faults.hooks import Hooks


def with_short_watchdog(deployment: Deployment) -> Hooks:
    """Return hooks with a short watchdog timeout, so that a stalled consumer ends soon."""
    return Hooks(folder=deployment.folder, stuck_after_s=5)


def test_emptied_broker_loses_no_image(minimal_of_each_broker: Deployment, small_bundle: Any, verify: Verify) -> None:
    deployment = minimal_of_each_broker
    with fault_run(deployment, small_bundle, images=120) as run:
        run.until_settled(0.1)
        run.record_fault()
        deployment.broker.empty()
        verify(f"{deployment.broker.name}: emptied", run)


@pytest.mark.slow
@pytest.mark.parametrize("away_s", [0, 10])
def test_killed_broker_loses_no_image(
    away_s: float, full_of_each_broker: Deployment, small_bundle: Any, verify: Verify
) -> None:
    deployment = full_of_each_broker
    with fault_run(deployment, small_bundle, images=200, hooks=with_short_watchdog(deployment)) as run:
        run.until_settled(0.1)
        run.record_fault()
        deployment.broker.daemon.kill()
        run.wait(away_s)
        deployment.broker.daemon.start()
        verify(f"{deployment.broker.name}: kill -9, {away_s} s unreachable", run)


@pytest.mark.slow
def test_restarted_broker_loses_no_image(full_of_each_broker: Deployment, small_bundle: Any, verify: Verify) -> None:
    deployment = full_of_each_broker
    with fault_run(deployment, small_bundle, images=400, hooks=with_short_watchdog(deployment)) as run:
        for share in (0.1, 0.3, 0.5):
            run.until_settled(share)
            run.record_fault()
            deployment.broker.daemon.stop()
            deployment.broker.daemon.start()
        verify(f"{deployment.broker.name}: restart", run)


@pytest.mark.slow
def test_unresponsive_broker_loses_no_image(full_of_each_broker: Deployment, small_bundle: Any, verify: Verify) -> None:
    deployment = full_of_each_broker
    with fault_run(deployment, small_bundle, images=200, hooks=with_short_watchdog(deployment)) as run:
        run.until_settled(0.1)
        run.record_fault()
        deployment.broker.daemon.pause()
        run.wait(30)
        deployment.broker.daemon.resume()
        verify(f"{deployment.broker.name}: SIGSTOP for 30 s", run)


@pytest.mark.slow
def test_cut_connections_to_the_broker_lose_no_image(
    full_of_each_broker: Deployment, small_bundle: Any, verify: Verify
) -> None:
    deployment = full_of_each_broker
    with fault_run(deployment, small_bundle, images=400, hooks=with_short_watchdog(deployment)) as run:
        for share in (0.1, 0.3, 0.5, 0.7):
            run.until_settled(share)
            run.record_fault()
            deployment.proxies["broker"].inject(None)
        verify(f"{deployment.broker.name}: connections reset", run)


def duplicate(messages: Sequence[QueuedMessage]) -> Sequence[QueuedMessage]:
    return [queued for queued in messages for _ in range(2)]


def shuffle(messages: Sequence[QueuedMessage]) -> Sequence[QueuedMessage]:
    return sorted(messages, key=lambda queued: hash(queued.body[-40:]))


def change_versions(messages: Sequence[QueuedMessage]) -> Sequence[QueuedMessage]:
    """Change the first message to an older version and the last one to a newer version."""
    return [messages[0].of_version(0), *messages[1:-1], messages[-1].of_version(2)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (duplicate, "every message twice"),
        (shuffle, "messages out of order"),
        (change_versions, "an older and a newer message"),
    ],
)
def test_changed_queue_settles_every_image_once(
    change: Change, fault: str, full_of_each_broker: Deployment, small_bundle: Any, verify: Verify
) -> None:
    deployment = full_of_each_broker
    with fault_run(deployment, small_bundle, images=200) as run:
        run.until_settled(0.1)
        run.record_fault()
        run.supervisor.signal(0, signal.SIGSTOP)
        deployment.broker.rewrite(change)
        run.supervisor.signal(0, signal.SIGCONT)
        verify(f"{deployment.broker.name}: {fault}", run)
