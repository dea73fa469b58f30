"""The Celery application and its tasks: `celery -A worker.app worker`, `... beat`, `... flower`.

Importing this module is cheap: TensorFlow is loaded when a worker starts.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import structlog
from celery.concurrency import ALIASES
from celery.exceptions import Ignore, SecurityWarning
from celery.signals import setup_logging, worker_init, worker_ready, worker_shutdown, worker_shutting_down
from structlog.contextvars import bound_contextvars

from worker.consumer.duty_queue import DutyQueueConsumer
from worker.consumer.live_queue import LiveQueueConsumer
from worker.core.errors import FundusError, MessageError, ServiceError
from worker.core.messages import TRACE_HEADER, GradeChunk, WriteReport
from worker.core.messaging.broker import (
    CLOSE_NIGHTS,
    GRADE_CHUNK,
    NIGHTLY,
    PUBLISH,
    RETENTION,
    WRITE_REPORT,
    make_celery,
)
from worker.core.process_hardening import forbid_inspection
from worker.core.settings import read_settings
from worker.core.telemetry.log_setup import configure_logs
from worker.core.vocabulary import Queue
from worker.maintenance import beat_tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from worker.inference.runtime import Runtime

# Celery's own warning about root speaks of its options and of pickle, which this worker refuses; see `_warn_of_root`.
warnings.filterwarnings("ignore", category=SecurityWarning)
VALIDATING_STRATEGY = "worker.consumer.validation:validating_strategy"

log = structlog.get_logger(__name__)
settings = read_settings()
app = make_celery(settings, service="fundus-worker")
app.steps["consumer"].update((LiveQueueConsumer, DutyQueueConsumer))
ALIASES["threads"] = "worker.consumer.task_pool:TaskPool"
_runtime: Runtime | None = None


# Celery prints no traceback of a FundusError: it is in `throws`.
@app.task(name=GRADE_CHUNK, Strategy=VALIDATING_STRATEGY, throws=(FundusError,), bind=True)
def grade_chunk(task: Any, message: dict[str, Any]) -> dict[str, int]:
    """Grade the images of one chunk; return their number by status."""
    chunk = GradeChunk.decode(message)
    if _runtime is None:
        raise ServiceError("no chunk can be graded: the worker is starting or stopping")
    request = task.request
    with (
        bound_contextvars(chunk=request.id),
        app.tracing.trace_grading(request.get(TRACE_HEADER), chunk=request.id, images=len(chunk.image_ids)),
        _failure_logged(GRADE_CHUNK),
    ):
        try:
            return _runtime.grade_chunk(chunk, urgent=request.delivery_info["routing_key"] == Queue.LIVE)
        except MessageError as error:
            log.error("message_refused", task=GRADE_CHUNK, code=error.code, detail=error.detail)  # noqa: TRY400 - one line
            raise Ignore from error


@app.task(name=WRITE_REPORT, Strategy=VALIDATING_STRATEGY, throws=(FundusError,))
def write_report(message: dict[str, Any]) -> bool:
    """Write the report of a finished run to the store; return false if none is pending or another worker writes it."""
    run_id = WriteReport.decode(message).run_id
    if _runtime is None:
        raise ServiceError("no report can be written: the worker is starting or stopping")
    with _failure_logged(WRITE_REPORT):
        return _runtime.write_report(run_id)


@app.task(name=NIGHTLY, Strategy=VALIDATING_STRATEGY, throws=(FundusError,))
def nightly(message: dict[str, Any] | None = None) -> dict[str, Any]:
    """Enqueue images of the nightly source that are new or changed, into the night of the message."""
    night = beat_tasks.read_due_date(NIGHTLY, message, settings.time_zone)
    with _failure_logged(NIGHTLY), _tracked() as touch:
        return beat_tasks.enqueue_night(settings, night, touch)


@app.task(name=CLOSE_NIGHTS, Strategy=VALIDATING_STRATEGY, throws=(FundusError,))
def close_nights(message: dict[str, Any] | None = None) -> dict[str, Any]:
    """Close the nights whose runs are finished."""
    beat_tasks.read_due_date(CLOSE_NIGHTS, message, settings.time_zone)
    with _failure_logged(CLOSE_NIGHTS), _tracked() as touch:
        return beat_tasks.close_nights(settings, touch)


@app.task(name=PUBLISH, Strategy=VALIDATING_STRATEGY, throws=(FundusError,))
def publish(message: dict[str, Any] | None = None) -> dict[str, Any]:
    """Publish the results that are due."""
    beat_tasks.read_due_date(PUBLISH, message, settings.time_zone)
    with _tracked() as touch:
        return beat_tasks.publish(settings, touch)


@app.task(name=RETENTION, Strategy=VALIDATING_STRATEGY, throws=(FundusError,))
def retention(message: dict[str, Any] | None = None) -> dict[str, Any]:
    """Delete expired overlays and outcomes."""
    beat_tasks.read_due_date(RETENTION, message, settings.time_zone)
    with _failure_logged(RETENTION), _tracked() as touch:
        return beat_tasks.run_retention(settings, touch)


app.conf.beat_schedule = beat_tasks.schedule(settings)


@contextmanager
def _failure_logged(task: str) -> Iterator[None]:
    """Log a FundusError in one line; Celery's own line about it is switched off."""
    try:
        yield
    except FundusError as error:
        log.warning("task_failed", task=task, code=error.code, detail=error.detail)
        raise


@contextmanager
def _tracked() -> Iterator[Callable[[], object]]:
    """Count a task as work in flight; yield the function that reports its progress to the watchdog."""
    if _runtime is None:
        yield lambda: None
        return
    with _runtime.activity.track_chunk():
        yield _runtime.activity.touch


@setup_logging.connect
def _set_up_logging(**_: object) -> None:
    configure_logs(settings.log_format, settings.log_level)


@worker_init.connect
def _start(**_: object) -> None:
    global _runtime
    forbid_inspection()
    _set_up_logging()  # Celery sends its signal for logging only after this one
    _warn_of_root()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    try:
        from worker.inference.runtime import Runtime

        _runtime = Runtime(settings, app)
    # Celery only logs exceptions of signal receivers, except SystemExit.
    except FundusError as error:
        logging.getLogger(__name__).error("cannot start: [%s] %s", error.code, error.detail)  # noqa: TRY400 - one line
        raise SystemExit(1) from error
    except Exception as error:
        logging.getLogger(__name__).exception("cannot start")
        raise SystemExit(1) from error


def _warn_of_root() -> None:
    if os.geteuid() == 0:
        log.warning(
            "runs_as_root",
            detail="an attacker who takes over this worker has all rights on the machine; fix: start it as a user of"
            " its own, as the service unit and the container image do",
        )


@worker_ready.connect
def _finish_chunks_on_quit(**_: object) -> None:
    # Celery's cold shutdown tries to kill the jobs of the pool; with threads it fails with a traceback.
    if threading.current_thread() is threading.main_thread():  # programs that embed a worker keep their handlers
        signal.signal(signal.SIGQUIT, signal.getsignal(signal.SIGTERM))


@worker_shutting_down.connect
def _stop_reports(**_: object) -> None:
    if _runtime is not None:
        _runtime.stop_reports()


@worker_shutdown.connect
def _stop(**_: object) -> None:
    global _runtime
    runtime, _runtime = _runtime, None
    if runtime is not None:
        runtime.close()
