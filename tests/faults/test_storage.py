"""A store that refuses, goes silent, or breaks off its answers."""

from pathlib import Path

import pytest

from tests.faults.conftest import Record
from tests.faults.site import Site
from tests.faults.trial import trial
from tests.services.fault_proxy import Fault

FAULTS = [
    pytest.param(Fault("unavailable"), 30, id="SlowDown"),
    pytest.param(Fault("stall"), 12, id="black hole"),
    pytest.param(Fault("cut", after_bytes=1), 30, id="answer of an upload lost"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "times"), FAULTS)
def test_failing_requests_lose_no_image(
    fault: Fault, times: int, full: Site, small_bundle: Path, conclude: Record, request: pytest.FixtureRequest
) -> None:
    with trial(full, small_bundle, images=120) as run:
        run.until_settled(0.1)
        run.strike()
        full.proxies["storage"].inject(fault, times=times)
        conclude(f"storage: {request.node.callspec.id}, {times} connections", run)
        assert full.proxies["storage"].faults == times
