"""A broker that dies, stalls, forgets, repeats, shuffles, or carries what this version does not understand."""

import json
import signal
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.conftest import Record
from tests.faults.hooks import Hooks
from tests.faults.site import Site
from tests.faults.trial import Trial, trial

QUEUE = "bulk"


def test_emptied_broker_loses_no_image(light: Site, small_bundle: Any, conclude: Record) -> None:
    with trial(light, small_bundle, images=120) as run:
        run.until_settled(0.1)
        run.strike()
        light.broker().flushall()
        conclude("broker: FLUSHALL", run)


@pytest.mark.slow
@pytest.mark.parametrize("away_s", [0, 10])
def test_killed_broker_loses_no_image(away_s: float, full: Site, small_bundle: Any, conclude: Record) -> None:
    with trial(full, small_bundle, images=200, hooks=Hooks(folder=full.folder, stuck_after_s=5)) as run:
        run.until_settled(0.1)
        run.strike()
        full.valkey.kill()
        run.wait(away_s)
        full.valkey.start()
        conclude(f"broker: kill -9, {away_s} s away", run)


@pytest.mark.slow
def test_restarted_broker_loses_no_image(full: Site, small_bundle: Any, conclude: Record) -> None:
    # A consumer that is deaf after the second restart is ended by the watchdog.
    with trial(full, small_bundle, images=400, hooks=Hooks(folder=full.folder, stuck_after_s=5)) as run:
        for share in (0.1, 0.3, 0.5):
            run.until_settled(share)
            run.strike()
            full.valkey.stop()
            full.valkey.start()
        conclude("broker: restart", run)


@pytest.mark.slow
def test_broker_that_stops_answering_loses_no_image(full: Site, small_bundle: Any, conclude: Record) -> None:
    with trial(full, small_bundle, images=200, hooks=Hooks(folder=full.folder, stuck_after_s=5)) as run:
        run.until_settled(0.1)
        run.strike()
        full.valkey.pause()
        run.wait(30)
        full.valkey.resume()
        conclude("broker: SIGSTOP for 30 s", run)


@pytest.mark.slow
def test_cut_connections_to_the_broker_lose_no_image(full: Site, small_bundle: Any, conclude: Record) -> None:
    with trial(full, small_bundle, images=400, hooks=Hooks(folder=full.folder, stuck_after_s=5)) as run:
        for share in (0.1, 0.3, 0.5, 0.7):
            run.until_settled(share)
            run.strike()
            full.proxies["broker"].inject(None)
        conclude("broker: connections reset", run)


def duplicate(messages: list[bytes]) -> list[bytes]:
    return [message for message in messages for _ in range(2)]


def shuffle(messages: list[bytes]) -> list[bytes]:
    return sorted(messages, key=lambda message: hash(message[-40:]))


def of_another_version(messages: list[bytes]) -> list[bytes]:
    """The oldest message becomes one of a version before the first, the newest one of a version to come."""
    return [_with_version(messages[0], 0), *messages[1:-1], _with_version(messages[-1], 2)]


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
    change: Callable[[list[bytes]], list[bytes]], fault: str, full: Site, small_bundle: Any, conclude: Record
) -> None:
    with trial(full, small_bundle, images=200) as run:
        run.until_settled(0.1)
        run.strike()
        rewrite_queue(full, run, change)
        conclude(f"broker: {fault}", run)


def rewrite_queue(site: Site, run: Trial, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Replace what waits while the worker stands still."""
    run.supervisor.signal(0, signal.SIGSTOP)
    with site.broker() as broker:
        messages = broker.lrange(QUEUE, 0, -1)
        assert len(messages) > 2
        broker.delete(QUEUE)
        broker.rpush(QUEUE, *change(messages))
    run.supervisor.signal(0, signal.SIGCONT)


def _with_version(message: bytes, version: int) -> bytes:
    envelope = json.loads(message)
    arguments, named, options = json.loads(b64decode(envelope["body"]))
    named["message"]["version"] = version
    envelope["body"] = b64encode(json.dumps([arguments, named, options]).encode()).decode()
    return json.dumps(envelope).encode()
