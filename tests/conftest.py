"""Fixtures of all tests: real servers, empty ledgers and stores, an environment without the user's settings.

The servers that the selected tests need start together, once per pytest process.
"""

import gc
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from kombu import pools
from redis import Redis
from sqlalchemy import Engine

from tests.faults.bundles import write_small_bundle
from tests.services.orthanc import PASSWORD, USER, Orthanc
from tests.services.orthanc import why_unavailable as why_no_orthanc
from tests.services.postgres import Postgres
from tests.services.rabbitmq import RabbitMQ, why_unavailable
from tests.services.seaweedfs import Bucket, SeaweedFS
from tests.services.stack import SERVER_FOLDER, Stack, running_servers
from worker.core.settings import Settings, parse_settings, read_settings
from worker.core.storage.object_store import ObjectStore
from worker.core.storage.storage import Storage
from worker.ledger.database import connect
from worker.ledger.migrate import upgrade

pytest_plugins = ["tests.failure_logs"]

SERVER_OF = {
    "valkey": "valkey",
    "broker_url": "valkey",
    "postgres": "postgres",
    "postgres_url": "postgres",
    "blank_postgres_url": "postgres",
    "seaweedfs": "seaweedfs",
    "bucket": "seaweedfs",
    "rabbitmq": "rabbitmq",
    "rabbitmq_url": "rabbitmq",
    "orthanc": "orthanc",
    "pacs": "orthanc",
}
"""Server that a fixture needs."""


def pytest_collection_finish() -> None:
    """Let garbage collection skip what the imports have made: it takes half a second otherwise, each time."""
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _servers_of(item):
            item.add_marker("services")


def _servers_of(item: pytest.Item) -> set[str]:
    """Return the servers that a test needs, by its fixtures and by parameters that name fixtures."""
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    names = {*getattr(item, "fixturenames", ()), *(value for value in parameters if isinstance(value, str))}
    return {SERVER_OF[name] for name in names if name in SERVER_OF}


@pytest.fixture(scope="session", autouse=True)
def _uncached_loggers() -> Iterator[None]:
    """Keep loggers from being cached, so that `capture_logs` also sees those that an earlier test has used."""
    configure = structlog.configure

    def configure_uncached(**options: Any) -> None:
        configure(**{**options, "cache_logger_on_first_use": False})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structlog, "configure", configure_uncached)
        yield


@pytest.fixture(autouse=True)
def _own_log_handlers() -> Iterator[None]:
    """Remove the handlers that a test adds to the root logger: they write to a stream that closes with the test."""
    root = logging.getLogger()
    before, level = [*root.handlers], root.level
    yield
    for handler in [*root.handlers]:
        if handler not in before:
            root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture(scope="session", autouse=True)
def _clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("FUNDUS_", "AWS_", "PG")):
                patch.delenv(name)
        nowhere = tmp_path_factory.getbasetemp() / "no-such-file"
        patch.setenv("AWS_CONFIG_FILE", str(nowhere))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(nowhere))
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture(autouse=True)
def _uncached_settings() -> None:
    read_settings.cache_clear()


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """The servers that the selected tests need; they may still be starting."""
    with running_servers(server for item in request.session.items for server in _servers_of(item)) as stack:
        request.config.stash[SERVER_FOLDER] = stack.folder
        yield stack


@pytest.fixture(scope="session")
def valkey(servers: Stack) -> str:
    """URL of the session's Valkey, which is not emptied."""
    assert servers.broker_url is not None
    return servers.broker_url


@pytest.fixture(scope="session")
def postgres(servers: Stack) -> Postgres:
    """The session's PostgreSQL server, with a migrated template."""
    assert servers.postgres is not None
    servers.postgres.wait()
    servers.postgres.make_template(_migrate)
    return servers.postgres


@pytest.fixture(scope="session")
def seaweedfs(servers: Stack) -> SeaweedFS:
    """The session's S3 server."""
    assert servers.seaweedfs is not None
    servers.seaweedfs.wait()
    return servers.seaweedfs


@pytest.fixture
def broker_url(valkey: str) -> str:
    """URL of an empty Valkey."""
    with Redis.from_url(valkey) as client:
        client.flushall()
    return valkey


@pytest.fixture(scope="session")
def rabbitmq(servers: Stack) -> RabbitMQ:
    """The session's RabbitMQ; skips the test if the system has none."""
    if servers.rabbitmq is None:
        pytest.skip(str(why_unavailable()))
    servers.rabbitmq.wait()
    return servers.rabbitmq


@pytest.fixture
def rabbitmq_url(rabbitmq: RabbitMQ) -> str:
    """URL of a RabbitMQ without queues."""
    rabbitmq.delete_queues()
    pools.reset()  # connections remember the queues that they have declared
    return rabbitmq.url


@pytest.fixture(scope="session")
def orthanc(servers: Stack) -> Orthanc:
    """The session's PACS, which is not emptied; skips the test if the system has none."""
    if servers.orthanc is None:
        pytest.skip(str(why_no_orthanc()))
    servers.orthanc.wait()
    return servers.orthanc


@pytest.fixture
def pacs(orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch) -> Orthanc:
    """An empty PACS, selected by environment variables with its credentials."""
    orthanc.clear()
    monkeypatch.setenv("FUNDUS_DICOMWEB_URL", orthanc.url)
    monkeypatch.setenv("FUNDUS_DICOMWEB_USER", USER)
    monkeypatch.setenv("FUNDUS_DICOMWEB_PASSWORD", PASSWORD)
    return orthanc


@pytest.fixture(scope="session")
def _migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "migrated.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(tmp_path: Path, _migrated_file: Path) -> str:
    """URL of a migrated, empty ledger in SQLite."""
    path = shutil.copy(_migrated_file, tmp_path / "ledger.db")
    return f"sqlite:///{path}"


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """URL of a migrated, empty ledger in PostgreSQL."""
    name = postgres.create()
    yield postgres.url(name)
    postgres.drop(name)


@pytest.fixture
def blank_sqlite_url(tmp_path: Path) -> str:
    """URL of an empty SQLite file."""
    (file := tmp_path / "blank.db").touch()
    return f"sqlite:///{file}"


@pytest.fixture
def blank_postgres_url(postgres: Postgres) -> Iterator[str]:
    """URL of a PostgreSQL database without tables."""
    name = postgres.create(template="template0")
    yield postgres.url(name)
    postgres.drop(name)


@pytest.fixture(params=["sqlite_url", "postgres_url"], ids=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Engine of a migrated, empty ledger, on SQLite and on PostgreSQL."""
    yield from _connect(request.getfixturevalue(request.param))


@pytest.fixture(params=["blank_sqlite_url", "blank_postgres_url"], ids=["sqlite", "postgresql"])
def blank_engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Engine of a database without tables, on SQLite and on PostgreSQL."""
    yield from _connect(request.getfixturevalue(request.param))


@pytest.fixture
def bucket(seaweedfs: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket, selected by environment variables with its credentials."""
    bucket = seaweedfs.create()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", bucket.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", bucket.secret_key)
    monkeypatch.setenv("FUNDUS_S3_ENDPOINT_URL", bucket.endpoint_url)
    monkeypatch.setenv("FUNDUS_STORAGE_URL", bucket.storage_url)
    return bucket


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that does not exist yet, selected by environment variables as the store."""
    folder = tmp_path / "store"
    monkeypatch.setenv("FUNDUS_STORAGE_URL", folder.as_uri())
    return folder


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest) -> ObjectStore:
    """An empty object store, in a folder and in a bucket."""
    request.getfixturevalue(request.param)
    return Storage(parse_settings()).overlays


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the shipped network for 64 x 64 pixels, which starts and predicts fast."""
    folder = tmp_path_factory.mktemp("model") / "small"
    write_small_bundle(folder)
    return folder


@pytest.fixture(scope="session")
def small_model(small_bundle: Path) -> dict[str, str]:
    """Settings of a worker that starts in a quarter of the processor time of the default model (2.6 s of 10 s)."""
    return {"FUNDUS_MODEL": str(small_bundle), "FUNDUS_PRECISION": "float32"}


@pytest.fixture
def make_settings(tmp_path: Path) -> Callable[..., Settings]:
    """Function that makes settings from its arguments, the environment, and a ledger and store in the test's folder."""

    def make(**values: object) -> Settings:
        defaults = {"database_url": f"sqlite:///{tmp_path / 'ledger.db'}", "storage_url": (tmp_path / "store").as_uri()}
        absent = {name: value for name, value in defaults.items() if f"FUNDUS_{name.upper()}" not in os.environ}
        return parse_settings(**{**absent, **values})

    return make


def _migrate(url: str) -> None:
    engine = connect(parse_settings(database_url=url))
    upgrade(engine)
    engine.dispose()


def _connect(url: str) -> Iterator[Engine]:
    engine = connect(parse_settings(database_url=url))
    yield engine
    engine.dispose()
