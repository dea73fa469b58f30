"""The servers of one test session: those that its tests ask for, started together."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from producer.demo.embedded_valkey import embedded_valkey
from tests.services.postgres import Postgres, start_postgres
from tests.services.rabbitmq import RabbitMQ, missing
from tests.services.seaweedfs import FRUGAL, SeaweedFS, start_seaweedfs

SERVER_FOLDER = pytest.StashKey[Path]()
"""Where the configuration of a test session keeps the folder of its servers."""


@dataclass(frozen=True)
class Stack:
    """What runs; a part that nobody asked for, or that cannot be had here, is none."""

    broker_url: str | None
    postgres: Postgres | None
    seaweedfs: SeaweedFS | None
    rabbitmq: RabbitMQ | None
    folder: Path


@contextmanager
def running(wanted: Iterable[str], *, store_memory: str = FRUGAL) -> Iterator[Stack]:
    """Start the servers of these names: `valkey`, `postgres`, `seaweedfs`, `rabbitmq`. Only Valkey is waited for.

    Nothing of them is left at the end, neither process nor file.
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
        if "rabbitmq" in names and missing() is None:
            rabbitmq = RabbitMQ(root / "rabbitmq")
            cleanup.callback(rabbitmq.stop)
            rabbitmq.launch()
        broker_url = cleanup.enter_context(embedded_valkey(root / "valkey")) if "valkey" in names else None
        yield Stack(broker_url, postgres, seaweedfs, rabbitmq, root)
