"""Check that the broker answers and that Redis does not lose messages."""

from typing import Any

from redis import Redis, RedisError

from producer.doctor.check import Check, CheckStatus, mask_credentials
from worker.core.broker_address import BrokerAddress
from worker.core.errors import BrokerError, SettingsError
from worker.core.hosts import is_this_machine
from worker.core.messaging.broker import make_celery, queue_depth
from worker.core.messaging.broker_tls import read_broker
from worker.core.settings import Settings
from worker.core.vocabulary import TASK_QUEUES

TIMEOUT_S = 5

_REDIS_SETTINGS = {
    "maxmemory-policy": ("noeviction", "a full Redis discards queued messages"),
    "appendonly": ("yes", "a restart of Redis loses queued messages until the reconciler sends them again"),
}


def check_broker(settings: Settings) -> list[Check]:
    """Count the messages on each queue; check TLS and, of a Redis, eviction policy and persistence, too."""
    address = mask_credentials(settings.broker_url.get_secret_value())
    try:
        broker, tls = read_broker(settings)
        app = make_celery(settings)
        depths = ", ".join(f"{queue_depth(app, queue)} on {queue}" for queue in TASK_QUEUES)
    except SettingsError as error:
        return [Check("broker", CheckStatus.FAILED, error.detail, "correct this setting")]
    except BrokerError as error:
        remedy = "start the broker or correct FUNDUS_BROKER_URL"
        if "CERTIFICATE_VERIFY_FAILED" in error.detail:
            remedy = "name the authority of the broker's certificate in FUNDUS_BROKER_CA_FILE, and use the host in it"
        if "inequivalent arg" in error.detail:  # RabbitMQ's message for a queue of another type
            remedy = (
                "delete the queues `live` and `bulk` of an earlier version; the reconciler sends their messages again"
            )
        return [Check("broker", CheckStatus.FAILED, mask_credentials(f"{address}: {error.detail}"), remedy)]
    reached = Check("broker", CheckStatus.OK, f"{address}, messages waiting: {depths}")
    return [reached, *check_tls(broker), *([] if broker.is_amqp else _check_redis(broker.url, tls))]


def check_tls(broker: BrokerAddress) -> list[Check]:
    """Return a warning if the password may go to a stranger: no encryption, or no check of certificate or host."""
    if not broker.is_encrypted:
        if is_this_machine(broker.host):
            return []
        detail = f"the connection to {broker.host} is not encrypted: others on the network can read the password"
        return [Check("broker", CheckStatus.WARNING, detail, f"use {broker.scheme}s:// with a certificate")]
    if not broker.checks_certificate:
        detail = f"the certificate of {broker.host} is not checked: another server can read the password"
        remedy = "remove ssl_cert_reqs=none from FUNDUS_BROKER_URL and set FUNDUS_BROKER_CA_FILE"
        return [Check("broker", CheckStatus.WARNING, detail, remedy)]
    if not broker.checks_host:
        detail = f"the certificate may be one of another host than {broker.host}: that host can read the password"
        remedy = "remove ssl_check_hostname=false from FUNDUS_BROKER_URL and use the host in the certificate"
        return [Check("broker", CheckStatus.WARNING, detail, remedy)]
    return []


def _check_redis(url: str, tls: dict[str, Any]) -> list[Check]:
    if url.startswith("redis+socket:"):
        return []
    try:
        with Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, **tls) as client:
            values = {name: client.config_get(name).get(name) for name in _REDIS_SETTINGS}
    except RedisError as error:
        remedy = "make sure that maxmemory-policy is noeviction and appendonly is yes"
        return [Check("broker", CheckStatus.WARNING, f"cannot read the configuration: {error}", remedy)]
    return [
        Check("broker", CheckStatus.WARNING, f"{name} is {values[name]}: {harm}", f"set {name} {wanted}")
        for name, (wanted, harm) in _REDIS_SETTINGS.items()
        if values[name] != wanted
    ]
