from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.services.fault_proxy import FaultProxy, fault_proxy
from tests.services.seaweedfs import Bucket


@pytest.fixture
def proxy(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A proxy between the project and the S3 server, which injects network faults."""
    port = urlsplit(bucket.endpoint_url).port
    assert port is not None
    with fault_proxy(port) as proxy:
        monkeypatch.setenv("FUNDUS_S3_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("FUNDUS_S3_TIMEOUT_S", "0.5")
        yield proxy
