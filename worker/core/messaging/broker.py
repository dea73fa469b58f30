"""Celery application of the broker, and the functions that send messages to its queues."""

from collections.abc import Sequence

from amqp import AMQPError
from amqp.exceptions import MessageNacked
from celery import Celery
from kombu import Queue as KombuQueue
from kombu.exceptions import OperationalError
from kombu.transport import TRANSPORT_ALIASES
from redis import RedisError

from worker.core.errors import BrokerError
from worker.core.messages import GradeChunk, Message, WriteReport
from worker.core.messaging.broker_tls import read_broker
from worker.core.settings import Settings
from worker.core.telemetry.tracing import Tracing
from worker.core.vocabulary import DUTIES, Queue

GRADE_CHUNK = "fundus.grade_chunk"
WRITE_REPORT = "fundus.write_report"
NIGHTLY = "fundus.nightly"
CLOSE_NIGHTS = "fundus.morning"
RETENTION = "fundus.retention"
PUBLISH = "fundus.publish"
SOCKET_TIMEOUT_S = 10
HEARTBEAT_S = 30
DELIVERY_LIMIT = 20
"""Deliveries after which RabbitMQ drops a message. The reconciler sends its images again, since they stay queued."""
DUTY_TIMEOUT_MS = 24 * 3600 * 1000
"""Time after which RabbitMQ takes a duty from its consumer; by default it would be 30 minutes."""

_TRANSPORTS = {
    "redis": "worker.core.messaging.redis_transport:Transport",
    "rediss": "worker.core.messaging.redis_transport:Transport",
    "amqp": "worker.core.messaging.rabbitmq_transport:Transport",
    "amqps": "worker.core.messaging.rabbitmq_transport:SecureTransport",
}
_BROKER_ERRORS = (OperationalError, OSError, RedisError, AMQPError, MessageNacked)
"""Kombu wraps its clients' errors when it sends, but not when it inspects a queue."""


def make_celery(settings: Settings, *, service: str = "fundus-producer") -> Celery:
    """Make the Celery application for the broker of `settings`. It has no result backend: the ledger stores results.

    service: name of this process in traces.
    Raises SettingsError.
    """
    TRANSPORT_ALIASES.update(_TRANSPORTS)
    address, tls = read_broker(settings)
    app = Celery("fundus", broker=address.url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_queues=[_declare(name, amqp=address.is_amqp) for name in _consumed(settings)],
        task_create_missing_queues=False,
        task_default_queue=Queue.BULK,
        task_acks_late=True,
        # Acknowledge a failed chunk: its rows stay queued and the reconciler sends them again.
        task_acks_on_failure_or_timeout=True,
        worker_send_task_events=True,
        worker_prefetch_multiplier=1,
        worker_pool="threads",
        worker_consumer="worker.consumer.no_delayed_delivery:Consumer",
        worker_concurrency=settings.concurrency,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_enable_remote_control=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_soft_shutdown_timeout=0,
        broker_connection_retry_on_startup=True,
        # RabbitMQ closes a channel whose message is not acknowledged in time; the worker connects again.
        broker_channel_error_retry=address.is_amqp,
        broker_connection_timeout=SOCKET_TIMEOUT_S,
        broker_heartbeat=HEARTBEAT_S,
        broker_use_ssl=tls or False,
        broker_transport_options=_transport_options(settings, amqp=address.is_amqp),
        enable_utc=True,
        timezone=settings.time_zone,
    )
    app.tracing = Tracing(settings.otlp_url, service=service)
    return app


def broker_queue(app: Celery, queue: str) -> KombuQueue:
    """Return the declaration of a queue for the broker of `app`; on RabbitMQ a quorum queue, which is replicated."""
    return _declare(queue, amqp=str(app.conf.broker_url).startswith("amqp"))


def send_chunk(app: Celery, chunk: GradeChunk, *, queue: Queue, run_name: str) -> None:
    """Send one chunk to a queue. Raises BrokerError after 3 retries; the rows stay queued in the ledger."""
    try:
        with app.tracing.trace_send(run=run_name, images=len(chunk.image_ids), queue=str(queue)) as headers:
            _send(app, GRADE_CHUNK, chunk, queue, f"run={run_name}, images={len(chunk.image_ids)}", headers)
    except _BROKER_ERRORS as error:
        raise BrokerError(
            f"cannot send {len(chunk.image_ids)} images of run {run_name} to queue {queue}: {_reason(error)}"
        ) from error


def send_report(app: Celery, run_id: int, *, run_name: str) -> None:
    """Send the request for a run's report to the bulk queue. Raises BrokerError; the report stays pending then."""
    try:
        with app.tracing.trace_send("report", run=run_name, queue=str(Queue.BULK)) as headers:
            _send(app, WRITE_REPORT, WriteReport(run_id=run_id), Queue.BULK, f"run={run_name}", headers)
    except _BROKER_ERRORS as error:
        raise BrokerError(f"cannot send the report request of run {run_name}: {_reason(error)}") from error


def queue_depth(app: Celery, queue: str) -> int:
    """Return the number of messages on a queue that no worker has taken. Raises BrokerError."""
    try:
        with app.connection_for_read() as connection, connection.channel() as channel:
            return int(broker_queue(app, queue).bind(channel).queue_declare(passive=False).message_count)
    except _BROKER_ERRORS as error:
        raise BrokerError(f"cannot inspect queue {queue}: {_reason(error)}") from error


def chunked(image_ids: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """Split into consecutive slices of at most `size` ids."""
    return [tuple(image_ids[start : start + size]) for start in range(0, len(image_ids), size)]


def _consumed(settings: Settings) -> tuple[str, ...]:
    names = settings.queue_names
    return (*names, DUTIES) if Queue.BULK in names else names


def _declare(queue: str, *, amqp: bool) -> KombuQueue:
    if not amqp:
        return KombuQueue(queue)
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": DELIVERY_LIMIT}
    # Earlier versions declared the other queues without this argument, and RabbitMQ refuses another declaration.
    longer = {"x-consumer-timeout": DUTY_TIMEOUT_MS} if queue == DUTIES else {}
    return KombuQueue(queue, queue_arguments=arguments | longer)


def _send(app: Celery, task: str, message: Message, queue: Queue, summary: str, headers: dict[str, str]) -> None:
    app.send_task(
        task,
        kwargs={"message": message.encode()},
        headers=headers,
        # Given a name, Celery would accept only the queues that this process consumes.
        queue=broker_queue(app, queue),
        # RabbitMQ only: wait for the confirmation, and fail if no queue accepts the message.
        confirm_timeout=SOCKET_TIMEOUT_S,
        mandatory=True,
        # Shown by Flower and in the worker's log.
        argsrepr="()",
        kwargsrepr=summary,
        retry=True,
        retry_policy={"max_retries": 3, "interval_start": 0.2, "interval_step": 0.5, "interval_max": 2},
    )


def _transport_options(settings: Settings, *, amqp: bool) -> dict[str, object]:
    if amqp:
        # A message counts as sent when the broker has confirmed it.
        return {"confirm_publish": True, "read_timeout": SOCKET_TIMEOUT_S, "write_timeout": SOCKET_TIMEOUT_S}
    return {
        # Take from the queues in their order: live before bulk.
        "queue_order_strategy": "priority",
        "visibility_timeout": settings.visibility_timeout_s,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_connect_timeout": SOCKET_TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "retry_on_timeout": True,
    }


def _reason(error: BaseException) -> str:
    """Return the first line of the exception's message, in its own words instead of a class name."""
    message = str(error).strip()
    return message.splitlines()[0] if message else "the broker gave no reason"
