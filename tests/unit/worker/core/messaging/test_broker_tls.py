"""A broker with TLS gets the password only after it has shown a certificate of its host from a known authority."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from kombu import pools

from producer.doctor.broker import check_broker
from producer.doctor.check import CheckStatus
from tests.services.tls import Certificate, TlsServer, make_certificate, tls_server
from worker.core.errors import BrokerError, SettingsError
from worker.core.messages import GradeChunk
from worker.core.messaging.broker import broker_queue, make_celery, queue_depth, send_chunk
from worker.core.settings import Settings, parse_settings
from worker.core.vocabulary import Queue

CHUNK = GradeChunk(run_id=7, image_ids=("left-eye", "right-eye"))
Serve = Callable[..., AbstractContextManager[TlsServer]]


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    """Certificate of 127.0.0.1."""
    return make_certificate(tmp_path, "broker")


@pytest.fixture
def other_host(tmp_path: Path) -> Certificate:
    """Certificate of another host."""
    return make_certificate(tmp_path, "other", alternative_name="DNS:broker.example.org")


@pytest.fixture
def serve(broker_url: str) -> Serve:
    """Function that runs a TLS server with a certificate in front of an empty Valkey."""
    port = urlsplit(broker_url).port
    assert port is not None
    return lambda certificate, **options: tls_server(port, certificate, **options)


def at(url: str, server: TlsServer, scheme: str = "rediss", query: str = "") -> str:
    """The address of the TLS server, with the password of the broker behind it."""
    return f"{scheme}://:{urlsplit(url).password}@127.0.0.1:{server.port}/0{query}"


def send(settings: Settings) -> int:
    """Send a message and return the number of messages on the queue."""
    app = make_celery(settings)
    send_chunk(app, CHUNK, queue=Queue.BULK, run_name="july")
    return queue_depth(app, Queue.BULK)


def warnings(settings: Settings) -> list[str]:
    return [check.detail for check in check_broker(settings) if check.status == CheckStatus.WARNING]


@pytest.mark.parametrize("scheme", ["rediss", "amqps"])
def test_stranger_with_a_certificate_of_its_own_gets_no_password(
    scheme: str, serve: Serve, certificate: Certificate, broker_url: str
) -> None:
    with serve(certificate) as server:
        with pytest.raises(BrokerError, match="CERTIFICATE_VERIFY_FAILED"):
            queue_depth(make_celery(parse_settings(broker_url=at(broker_url, server, scheme))), Queue.BULK)
        assert bytes(server.received) == b""


@pytest.mark.parametrize("scheme", ["rediss", "amqps"])
def test_certificate_of_another_host_gets_no_password(
    scheme: str, serve: Serve, other_host: Certificate, broker_url: str
) -> None:
    with serve(other_host) as server:
        settings = parse_settings(broker_url=at(broker_url, server, scheme), broker_ca_file=other_host.file)
        with pytest.raises(BrokerError, match="IP address mismatch"):
            queue_depth(make_celery(settings), Queue.BULK)
        assert bytes(server.received) == b""


def test_certificate_of_a_known_authority_is_accepted(serve: Serve, certificate: Certificate, broker_url: str) -> None:
    with serve(certificate) as server:
        settings = parse_settings(broker_url=at(broker_url, server), broker_ca_file=certificate.file)
        assert send(settings) == 1
        assert [check.status for check in check_broker(settings)] == [CheckStatus.OK]


def test_worker_receives_over_tls(serve: Serve, certificate: Certificate, broker_url: str) -> None:
    with serve(certificate) as server:
        app = make_celery(parse_settings(broker_url=at(broker_url, server), broker_ca_file=certificate.file))
        send_chunk(app, CHUNK, queue=Queue.BULK, run_name="july")
        received: list[str] = []
        with (
            app.connection_for_read() as connection,
            connection.Consumer(
                broker_queue(app, Queue.BULK), callbacks=[lambda _, message: received.append(message.headers["task"])]
            ),
        ):
            connection.drain_events(timeout=10)
    assert received == ["fundus.grade_chunk"]


@pytest.mark.parametrize(
    ("query", "warning"),
    [
        ("?ssl_cert_reqs=none", "the certificate of 127.0.0.1 is not checked"),
        ("?ssl_check_hostname=false", "the certificate may be one of another host than 127.0.0.1"),
    ],
)
def test_address_may_say_otherwise_and_doctor_warns(
    query: str, warning: str, serve: Serve, other_host: Certificate, broker_url: str
) -> None:
    with serve(other_host) as server:
        settings = parse_settings(broker_url=at(broker_url, server, query=query), broker_ca_file=other_host.file)
        assert send(settings) == 1
        (found,) = warnings(settings)
    assert warning in found


def test_client_shows_its_certificate(serve: Serve, certificate: Certificate, broker_url: str, tmp_path: Path) -> None:
    client = make_certificate(tmp_path, "worker")
    with serve(certificate, client_authority=client.file) as server:
        known = {"broker_url": at(broker_url, server), "broker_ca_file": certificate.file}
        with pytest.raises(BrokerError):
            send(parse_settings(**known))
        pools.reset()  # a connection of the pool is found by its address alone
        mine = parse_settings(**known, broker_client_certificate=client.file, broker_client_key=client.key)
        assert send(mine) == 1
        assert warnings(mine) == []


def test_rabbitmq_over_tls(rabbitmq_url: str, certificate: Certificate) -> None:
    parts = urlsplit(rabbitmq_url)
    assert parts.port is not None
    with tls_server(parts.port, certificate) as server:
        address = rabbitmq_url.replace("amqp://", "amqps://").replace(f":{parts.port}", f":{server.port}")
        assert send(parse_settings(broker_url=address, broker_ca_file=certificate.file)) == 1
        assert send(parse_settings(broker_url=f"{address}?ssl_cert_reqs=none")) == 2
        assert warnings(parse_settings(broker_url=f"{address}?ssl_cert_reqs=none"))


@pytest.mark.parametrize(
    ("setting", "content"),
    [("broker_ca_file", None), ("broker_ca_file", "not a certificate"), ("broker_client_certificate", "none")],
)
def test_unusable_file_is_named(setting: str, content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "file.pem"
    if content is not None:
        file.write_text(content)
    settings = parse_settings(broker_url="rediss://127.0.0.1:1/0", **{setting: file})
    with pytest.raises(SettingsError, match=rf"FUNDUS_{setting.upper()}: cannot read .*/file\.pem"):
        make_celery(settings)


def test_client_key_without_its_certificate_is_refused(certificate: Certificate) -> None:
    settings = parse_settings(broker_url="rediss://127.0.0.1:1/0", broker_client_key=certificate.key)
    with pytest.raises(SettingsError, match="FUNDUS_BROKER_CLIENT_KEY: needs FUNDUS_BROKER_CLIENT_CERTIFICATE"):
        make_celery(settings)
