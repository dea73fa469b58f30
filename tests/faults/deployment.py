"""Deployments for fault tests: separate servers, proxies that inject faults, and direct reads of ledger and store."""

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
"""Short timeouts, so that recovery takes seconds instead of minutes."""
PLAIN = {
    "FUNDUS_OVERLAY_SIZE_PX": "256",
    # Lines of the default style may cross the number in a photograph.
    "FUNDUS_OVERLAY_COLOURS": "notebook",
    "FUNDUS_DECODE_PROCESSES": "1",
    "FUNDUS_TRANSFER_THREADS": "4",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}


@dataclass
class Deployment:
    """Servers of one test. Workers connect through the proxies; `rows`, `keys` and `read` do not."""

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
        """Make `keys` and `read` use this bucket."""
        pages = bucket.client.get_paginator("list_objects_v2")
        self.keys = lambda: [
            item["Key"] for page in pages.paginate(Bucket=bucket.name) for item in page.get("Contents", [])
        ]
        self.read = lambda key: bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"].read()


@contextmanager
def minimal_deployment(folder: Path, broker: str = "valkey") -> Iterator[Deployment]:
    """Start a broker, with SQLite as ledger and a folder as store."""
    ledger, store = folder / "ledger.db", folder / "store"

    def rows(query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(ledger, timeout=30)) as connection:
            return connection.execute(query).fetchall()

    with ExitStack() as cleanup:
        message_broker = make_broker(broker, _make_folder(folder / broker), cleanup)
        _start(cleanup, message_broker.daemon)
        proxy = cleanup.enter_context(fault_proxy(message_broker.daemon.port))
        env = {
            "FUNDUS_DATABASE_URL": f"sqlite:///{ledger}",
            "FUNDUS_BROKER_URL": message_broker.url(proxy.port),
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
            message_broker,
            proxies={"broker": proxy},
        )


@contextmanager
def full_deployment(folder: Path, broker: str = "valkey") -> Iterator[Deployment]:
    """Start PostgreSQL, SeaweedFS and a broker, each behind a proxy."""
    with ExitStack() as cleanup:
        message_broker = make_broker(broker, _make_folder(folder / broker), cleanup)
        _start(cleanup, message_broker.daemon)
        postgres = _start(cleanup, make_postgres(_make_folder(folder / "postgres")))
        seaweedfs, s3 = make_seaweedfs(_make_folder(folder / "seaweedfs"))
        _start(cleanup, seaweedfs)
        bucket = s3.create()
        daemons = {"broker": message_broker.daemon, "database": postgres, "storage": seaweedfs}
        proxies = {name: cleanup.enter_context(fault_proxy(daemon.port)) for name, daemon in daemons.items()}
        env = {
            "FUNDUS_DATABASE_URL": postgres_url(proxies["database"].port),
            "FUNDUS_BROKER_URL": message_broker.url(proxies["broker"].port),
            "FUNDUS_STORAGE_URL": f"s3://{bucket.name}/",
            "FUNDUS_S3_ENDPOINT_URL": f"http://127.0.0.1:{proxies['storage'].port}",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        }

        def rows(query: str) -> list[tuple[Any, ...]]:
            with psycopg.connect(postgres_url(postgres.port), connect_timeout=5) as connection:
                # The reads of the test must not conflict with serialisable transactions of the workers.
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
            message_broker,
            postgres,
            seaweedfs,
            s3,
            proxies,
        )
        deployment.show(bucket)
        yield deployment


def _make_folder(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def _start(cleanup: ExitStack, daemon: Daemon) -> Daemon:
    cleanup.callback(daemon.stop)
    daemon.start()
    return daemon
