from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from redis import Redis
from sqlalchemy import Engine
from typer.testing import CliRunner

from producer.cli import app
from producer.doctor.broker import check_broker, check_tls
from producer.doctor.check import Check, CheckStatus
from producer.doctor.database import check_database
from producer.doctor.storage import check_storage
from tests.services.rabbitmq import RabbitMQ
from tests.services.seaweedfs import Bucket
from worker.core.broker_address import parse_broker_address
from worker.core.messages import GradeChunk
from worker.core.messaging.broker import make_celery, send_chunk
from worker.core.settings import Settings, parse_settings
from worker.core.vocabulary import Queue
from worker.ledger.database import connect
from worker.ledger.database_tls import find_unverified_host

Make = Callable[..., Settings]


def statuses(checks: list[Check]) -> list[CheckStatus]:
    return [check.status for check in checks]


def address_of(engine: Engine) -> str:
    return engine.url.set(drivername=engine.url.get_backend_name()).render_as_string(hide_password=False)


def test_migrated_database_is_ok(engine: Engine, make_settings: Make) -> None:
    (check,) = check_database(make_settings(database_url=address_of(engine)))

    assert check.status == CheckStatus.OK
    assert " at schema revision " in check.detail


def test_blank_database_needs_an_upgrade(blank_engine: Engine, make_settings: Make) -> None:
    (check,) = check_database(make_settings(database_url=address_of(blank_engine)))

    assert check.status == CheckStatus.FAILED
    assert "the database has no ledger schema, this version needs" in check.detail
    assert "fundus db upgrade" in str(check.remedy)


def test_missing_database_file_needs_an_upgrade_and_is_not_created(make_settings: Make, tmp_path: Path) -> None:
    (check,) = check_database(make_settings(database_url=f"sqlite:///{tmp_path / 'x.db'}"))

    assert check.status == CheckStatus.FAILED
    assert f"no ledger at {tmp_path / 'x.db'}" in check.detail
    assert "fundus db upgrade" in str(check.remedy)
    assert not (tmp_path / "x.db").exists()


def test_ledger_that_every_user_can_read_is_a_warning(sqlite_url: str, make_settings: Make, tmp_path: Path) -> None:
    (tmp_path / "ledger.db").chmod(0o644)

    (reached, warning) = check_database(make_settings(database_url=sqlite_url))

    assert reached.status == CheckStatus.OK
    assert warning.status == CheckStatus.WARNING
    assert warning.detail == f"every user of this machine can read {tmp_path / 'ledger.db'} (mode 644)"
    assert warning.remedy == "run `fundus db upgrade`, which sets its mode to 640"


def test_password_of_an_unreachable_database_is_hidden(make_settings: Make) -> None:
    (check,) = check_database(make_settings(database_url="postgresql://u:secret@127.0.0.1:1/x"))

    assert check.status == CheckStatus.FAILED
    assert check.detail.startswith("postgresql://u:***@127.0.0.1:1/x: ")
    assert "secret" not in check.detail


def test_broker_beyond_this_machine_without_tls_is_a_warning() -> None:
    (warning,) = check_tls(parse_broker_address("redis://:secret@broker:6379/0"))

    assert warning.status == CheckStatus.WARNING
    assert "the connection to broker is not encrypted" in warning.detail
    assert warning.remedy == "use rediss:// with a certificate"
    assert check_tls(parse_broker_address("redis://:secret@127.0.0.1:6379/0")) == []


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("postgresql://u@db/x", "db"),
        ("postgresql://u@10.0.0.7/x?sslmode=require", "10.0.0.7"),
        ("postgresql://u@db/x?sslmode=verify-ca", "db"),
        ("postgresql:///x?host=127.0.0.1&host=standby", "standby"),
        ("postgresql://u@db/x?sslmode=verify-full", None),
        ("postgresql://u@127.0.0.1/x", None),
        ("postgresql://u@[::1]/x", None),
        ("postgresql:///x?host=/run/postgresql", None),
        ("sqlite:///x.db", None),
    ],
)
def test_database_host_whose_certificate_is_not_checked_is_found(url: str, host: str | None) -> None:
    assert find_unverified_host(connect(parse_settings(database_url=url)).url) == host


def test_database_host_and_mode_may_come_from_libpqs_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    url = connect(parse_settings(database_url="postgresql:///x")).url
    assert find_unverified_host(url) is None
    monkeypatch.setenv("PGHOST", "db")
    assert find_unverified_host(url) == "db"
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    assert find_unverified_host(url) is None


def test_durable_broker_is_ok(broker_url: str, make_settings: Make) -> None:
    (check,) = check_broker(make_settings(broker_url=broker_url))

    assert check.status == CheckStatus.OK
    assert check.detail.endswith("messages waiting: 0 on live, 0 on bulk, 0 on duties")


def test_broker_that_can_lose_messages_is_a_warning(broker_url: str, make_settings: Make) -> None:
    with Redis.from_url(broker_url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("appendonly", "no")
        try:
            checks = check_broker(make_settings(broker_url=broker_url))
        finally:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("appendonly", "yes")

    assert statuses(checks) == [CheckStatus.OK, CheckStatus.WARNING, CheckStatus.WARNING]
    assert [check.remedy for check in checks[1:]] == ["set maxmemory-policy noeviction", "set appendonly yes"]


def test_password_of_an_unreachable_broker_is_hidden(make_settings: Make) -> None:
    (check,) = check_broker(make_settings(broker_url="redis://:secret@127.0.0.1:1/0"))

    assert check.status == CheckStatus.FAILED
    assert "secret" not in check.detail


def test_folder_store_is_ok_and_left_empty(make_settings: Make, tmp_path: Path) -> None:
    (check,) = check_storage(make_settings(storage_url=(tmp_path / "store").as_uri()))

    assert check.status == CheckStatus.OK
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []


def test_bucket_is_ok(bucket: Bucket) -> None:
    (check,) = check_storage(parse_settings())

    assert check.status == CheckStatus.OK
    assert check.detail.startswith("s3://")


def test_missing_bucket_is_named(bucket: Bucket) -> None:
    (check,) = check_storage(parse_settings(storage_url="s3://no-such-bucket/x"))

    assert check.status == CheckStatus.FAILED
    assert "NoSuchBucket" in check.detail


def test_unwritable_store_is_named(make_settings: Make, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")

    (check,) = check_storage(make_settings(storage_url=(tmp_path / "store").as_uri()))

    assert check.status == CheckStatus.FAILED
    assert str(tmp_path / "store") in check.detail


@pytest.mark.parametrize("option", [[], ["--json"]])
@pytest.mark.parametrize("name", ["FUNDUS_CHUNK_SIZE", "FUNDUS_CHUNK_SISE"])
def test_doctor_exits_2_when_a_setting_is_invalid_or_unknown(
    name: str, option: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "0")

    done = CliRunner().invoke(app, ["doctor", *option])

    assert done.exit_code == 2
    assert f"{name}: " in done.stdout


def test_doctor_exits_1_when_a_check_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert CliRunner().invoke(app, ["doctor", "--worker"]).exit_code == 1


def test_rabbitmq_is_ok_and_its_messages_are_counted(rabbitmq_url: str, make_settings: Make) -> None:
    settings = make_settings(broker_url=rabbitmq_url)
    send_chunk(make_celery(settings), GradeChunk(run_id=1, image_ids=("a",)), queue=Queue.BULK, run_name="july")
    (check,) = check_broker(settings)

    assert check.status == CheckStatus.OK
    assert check.detail.endswith("messages waiting: 0 on live, 1 on bulk, 0 on duties")
    assert "guest:guest" not in check.detail


def test_queue_of_another_type_is_named_with_its_remedy(
    rabbitmq: RabbitMQ, rabbitmq_url: str, make_settings: Make
) -> None:
    with closing(rabbitmq.connect()) as connection, closing(connection.channel()) as channel:
        channel.queue_declare("live", durable=True, auto_delete=False)
    (check,) = check_broker(make_settings(broker_url=rabbitmq_url))

    assert check.status == CheckStatus.FAILED
    assert "queue live" in check.detail
    assert "delete the queues" in str(check.remedy)
