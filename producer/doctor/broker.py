"""Check that the broker answers and that Redis does not lose messages."""

from redis import Redis, RedisError

from producer.doctor.check import Check, CheckStatus, mask_credentials
from worker.core.errors import BrokerError
from worker.core.messaging.broker import make_celery, queue_depth
from worker.core.settings import Settings
from worker.core.vocabulary import TASK_QUEUES

TIMEOUT_S = 5

_REDIS_SETTINGS = {
    "maxmemory-policy": ("noeviction", "a full Redis discards queued messages"),
    "appendonly": ("yes", "a restart of Redis loses queued messages until the reconciler sends them again"),
}


def check_broker(settings: Settings) -> list[Check]:
    """Count the messages on each queue; of a Redis, check eviction policy and persistence, too."""
    url = settings.broker_url.get_secret_value()
    address = mask_credentials(url)
    try:
        app = make_celery(settings)
        depths = ", ".join(f"{queue_depth(app, queue)} on {queue}" for queue in TASK_QUEUES)
    except BrokerError as error:
        remedy = "start the broker or correct FUNDUS_BROKER_URL"
        if "inequivalent arg" in error.detail:  # RabbitMQ's message for a queue of another type
            remedy = (
                "delete the queues `live` and `bulk` of an earlier version; the reconciler sends their messages again"
            )
        return [Check("broker", CheckStatus.FAILED, mask_credentials(f"{address}: {error.detail}"), remedy)]
    reached = Check("broker", CheckStatus.OK, f"{address}, messages waiting: {depths}")
    return [reached, *_check_redis(url)] if url.startswith(("redis:", "rediss:")) else [reached]


def _check_redis(url: str) -> list[Check]:
    try:
        with Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S) as client:
            values = {name: client.config_get(name).get(name) for name in _REDIS_SETTINGS}
    except RedisError as error:
        remedy = "make sure that maxmemory-policy is noeviction and appendonly is yes"
        return [Check("broker", CheckStatus.WARNING, f"cannot read the configuration: {error}", remedy)]
    return [
        Check("broker", CheckStatus.WARNING, f"{name} is {values[name]}: {harm}", f"set {name} {wanted}")
        for name, (wanted, harm) in _REDIS_SETTINGS.items()
        if values[name] != wanted
    ]
