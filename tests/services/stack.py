"""Servers of one test session: those that its tests need, started together."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from producer.demo.embedded_valkey import embedded_valkey
from tests.services.orthanc import Orthanc
from tests.services.orthanc import why_unavailable as why_no_orthanc
from tests.services.postgres import Postgres, start_postgres
from tests.services.rabbitmq import RabbitMQ, why_unavailable
from tests.services.seaweedfs import LOW_MEMORY, SeaweedFS, start_seaweedfs

SERVER_FOLDER = pytest.StashKey[Path]()
"""Key of the servers' folder in the stash of the pytest configuration."""


@dataclass(frozen=True)
class Stack:
    """The running servers; None for a server that no test needs or that this machine does not have."""

    broker_url: str | None
    postgres: Postgres | None
    seaweedfs: SeaweedFS | None
    rabbitmq: RabbitMQ | None
    orthanc: Orthanc | None
    folder: Path


@contextmanager
def running_servers(wanted: Iterable[str], *, store_memory: str = LOW_MEMORY) -> Iterator[Stack]:
    """Run the servers of these names until the block ends: `valkey`, `postgres`, `seaweedfs`, `rabbitmq`,
    `orthanc`.

    Only Valkey is ready at once. At the end, processes and files are removed.
    """
    names = set(wanted)
    with ExitStack() as cleanup:
        root = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="fundus-tests-")))
        for name in names:
            (root / name).mkdir()
        postgres = start_postgres(root / "postgres") if "postgres" in names else None
        if postgres is not None:
            cleanup.callback(postgres.stop)
        seaweedfs = start_seaweedfs(root / "seaweedfs", memory=store_memory) if "seaweedfs" in names else None
        if seaweedfs is not None:
            cleanup.callback(seaweedfs.stop)
        rabbitmq = None
        if "rabbitmq" in names and why_unavailable() is None:
            rabbitmq = RabbitMQ(root / "rabbitmq")
            cleanup.callback(rabbitmq.stop)
            rabbitmq.launch()
        orthanc = None
        if "orthanc" in names and why_no_orthanc() is None:
            orthanc = Orthanc(root / "orthanc")
            cleanup.callback(orthanc.stop)
            orthanc.launch()
        broker_url = cleanup.enter_context(embedded_valkey(root / "valkey")) if "valkey" in names else None
        yield Stack(broker_url, postgres, seaweedfs, rabbitmq, orthanc, root)
