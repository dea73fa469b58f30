"""Check the broker: it answers, and a Redis keeps what it is given."""

from redis import Redis, RedisError

from producer.doctor.check import Check, Verdict, masked
from worker.core.errors import BrokerError
from worker.core.messaging.broker import make_celery, queue_depth
from worker.core.settings import Settings
from worker.core.vocabulary import Queue

TIMEOUT_S = 5

_KEEPING = {
    "maxmemory-policy": ("noeviction", "a full Redis throws queued messages away"),
    "appendonly": ("yes", "a restart of Redis loses queued messages until the reconciler sends them again"),
}


def check_broker(settings: Settings) -> list[Check]:
    """Reach, with the messages that wait; of a Redis also how it keeps them."""
    url = settings.broker_url.get_secret_value()
    address = masked(url)
    try:
        app = make_celery(settings)
        waits = ", ".join(f"{queue_depth(app, queue)} on {queue}" for queue in Queue)
    except BrokerError as error:
        remedy = "start the broker, or mend FUNDUS_BROKER_URL"
        if "inequivalent arg" in error.detail:  # RabbitMQ's words for a queue of another kind
            remedy = (
                "delete the queues `live` and `bulk`, made by an earlier version: the ledger sends again what they held"
            )
        return [Check("broker", Verdict.FAILED, masked(f"{address}: {error.detail}"), remedy)]
    reached = Check("broker", Verdict.OK, f"{address}, messages waiting: {waits}")
    return [reached, *_check_redis(url)] if url.startswith(("redis:", "rediss:")) else [reached]


def _check_redis(url: str) -> list[Check]:
    try:
        with Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S) as client:
            has = {name: client.config_get(name).get(name) for name in _KEEPING}
    except RedisError as error:
        remedy = "see to it that the policy is noeviction and that the data is kept on disk"
        return [Check("broker", Verdict.WARNING, f"its configuration cannot be read: {error}", remedy)]
    return [
        Check("broker", Verdict.WARNING, f"{name} is {has[name]}: {harm}", f"set {name} {wanted}")
        for name, (wanted, harm) in _KEEPING.items()
        if has[name] != wanted
    ]
