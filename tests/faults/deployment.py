"""One place where a run meets a fault: servers of its own, how to harm them, and how to look behind the project."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.faults import settling_triggers
from tests.faults.brokers import Broker, make_broker
from tests.faults.servers import Daemon, make_postgres, make_seaweedfs, postgres_url
from tests.integration.processes import fundus
from tests.services.fault_proxy import FaultProxy, fault_proxy
from tests.services.seaweedfs import ACCESS_KEY, SECRET_KEY, Bucket, SeaweedFS

QUICK = {
    "FUNDUS_LEASE_S": "6",
    "FUNDUS_RESEND_AFTER_S": "4",
    "FUNDUS_RECONCILE_EVERY_S": "1",
    "FUNDUS_SERVICE_RETRY_TIMEOUT_S": "4",
    "FUNDUS_S3_TIMEOUT_S": "2",
    "FUNDUS_CHUNK_SIZE": "8",
    "FUNDUS_CONCURRENCY": "2",
    "FUNDUS_MAX_BATCH_SIZE": "8",
}
"""Short patience everywhere, so that what takes a minute as shipped takes seconds here."""
PLAIN = {
    "FUNDUS_OVERLAY_SIZE_PX": "256",
    "FUNDUS_DECODE_PROCESSES": "1",
    "FUNDUS_TRANSFER_THREADS": "4",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}


@dataclass
class Deployment:
    """The workers reach the servers through the proxies, the test's own eyes do not."""

    folder: Path
    env: Mapping[str, str]
    rows: Callable[[str], list[tuple[Any, ...]]]
    keys: Callable[[], list[str]]
    read: Callable[[str], bytes]
    broker: Broker
    postgres: Daemon | None = None
    seaweedfs: Daemon | None = None
    s3: SeaweedFS | None = None
    proxies: dict[str, FaultProxy] = field(default_factory=dict)

    def show(self, bucket: Bucket) -> None:
        """Look into this bucket from now on."""
        pages = bucket.client.get_paginator("list_objects_v2")
        self.keys = lambda: [
            item["Key"] for page in pages.paginate(Bucket=bucket.name) for item in page.get("Contents", [])
        ]
        self.read = lambda key: bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"].read()


@contextmanager
def minimal_deployment(folder: Path, broker: str = "valkey") -> Iterator[Deployment]:
    """SQLite, a folder as the store, and a broker."""
    ledger, store = folder / "ledger.db", folder / "store"

    def rows(query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(ledger, timeout=30)) as connection:
            return connection.execute(query).fetchall()

    with ExitStack() as cleanup:
        messages = make_broker(broker, _made(folder / broker), cleanup)
        _started(cleanup, messages.daemon)
        proxy = cleanup.enter_context(fault_proxy(messages.daemon.port))
        env = {
            "FUNDUS_DATABASE_URL": f"sqlite:///{ledger}",
            "FUNDUS_BROKER_URL": messages.url(proxy.port),
            "FUNDUS_STORAGE_URL": store.as_uri(),
        }
        fundus("db", "upgrade", env=env)
        with closing(sqlite3.connect(ledger)) as connection, connection:
            for statement in settling_triggers.SQLITE:
                connection.execute(statement)
        yield Deployment(
            folder,
            PLAIN | QUICK | env,
            rows,
            lambda: [str(path.relative_to(store)) for path in store.rglob("*") if path.is_file()],
            lambda key: (store / key).read_bytes(),
            messages,
            proxies={"broker": proxy},
        )


@contextmanager
def full_deployment(folder: Path, broker: str = "valkey") -> Iterator[Deployment]:
    """PostgreSQL, SeaweedFS and a broker, each behind a proxy."""
    with ExitStack() as cleanup:
        messages = make_broker(broker, _made(folder / broker), cleanup)
        _started(cleanup, messages.daemon)
        postgres = _started(cleanup, make_postgres(_made(folder / "postgres")))
        seaweedfs, s3 = make_seaweedfs(_made(folder / "seaweedfs"))
        _started(cleanup, seaweedfs)
        bucket = s3.create()
        daemons = {"broker": messages.daemon, "database": postgres, "storage": seaweedfs}
        proxies = {name: cleanup.enter_context(fault_proxy(daemon.port)) for name, daemon in daemons.items()}
        env = {
            "FUNDUS_DATABASE_URL": postgres_url(proxies["database"].port),
            "FUNDUS_BROKER_URL": messages.url(proxies["broker"].port),
            "FUNDUS_STORAGE_URL": f"s3://{bucket.name}/",
            "FUNDUS_S3_ENDPOINT_URL": f"http://127.0.0.1:{proxies['storage'].port}",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        }

        def rows(query: str) -> list[tuple[Any, ...]]:
            with psycopg.connect(postgres_url(postgres.port), connect_timeout=5) as connection:
                # What the test sees is to fail no transaction, and to be failed by none.
                connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
                return connection.execute(query).fetchall()  # type: ignore[arg-type]

        fundus("db", "upgrade", env=env)
        with psycopg.connect(postgres_url(postgres.port)) as connection:
            for statement in settling_triggers.POSTGRESQL:
                connection.execute(statement)
        deployment = Deployment(
            folder,
            PLAIN | QUICK | env,
            rows,
            list,
            lambda _: b"",
            messages,
            postgres,
            seaweedfs,
            s3,
            proxies,
        )
        deployment.show(bucket)
        yield deployment


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def _started(cleanup: ExitStack, daemon: Daemon) -> Daemon:
    cleanup.callback(daemon.stop)
    daemon.start()
    return daemon
