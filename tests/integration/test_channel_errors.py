"""RabbitMQ closes a worker's channel when a chunk takes too long; the worker continues and grades every image."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.processes import fundus, wait_until_finished
from tests.integration.stub_devices import devices, stub_settings
from tests.integration.test_duties import copies
from tests.services.rabbitmq import RabbitMQ, why_unavailable
from tests.services.seaweedfs import Bucket

pytestmark = [pytest.mark.services, pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable()))]

IMPATIENT = "-rabbit consumer_timeout 1000 -rabbit channel_tick_interval 500"
"""RabbitMQ takes a message back after 1 s instead of 30 minutes; in ms."""


@pytest.fixture
def impatient_url(tmp_path: Path) -> Iterator[str]:
    (folder := tmp_path / "rabbitmq").mkdir()
    server = RabbitMQ(folder, parameters=IMPATIENT)
    server.launch()
    try:
        server.wait()
        yield server.url
    finally:
        server.stop()


def test_worker_survives_a_closed_channel(tmp_path: Path, sqlite_url: str, impatient_url: str, bucket: Bucket) -> None:
    env = stub_settings(sqlite_url, impatient_url, bucket, tmp_path) | {"FUNDUS_REPORTS": "false", "STUB_IMAGE_S": "2"}
    with devices(1, env):
        fundus("enqueue", str(copies(tmp_path / "night", 4)), "--run", "night", env=env)
        assert wait_until_finished("night", env)["graded"] == 4
    (log,) = tmp_path.glob("worker-0-*.log")
    assert "PRECONDITION_FAILED" in log.read_text()
