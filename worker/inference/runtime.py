"""Resources of one worker process: model, connections, threads and periodic jobs."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog

from worker.core.cgroup import read_cpu_quota, read_memory_limit
from worker.core.errors import DatabaseError
from worker.core.machine import DECODER_REMEDY, find_memory_excess, usable_cores
from worker.core.messaging.broker import queue_depth, send_report
from worker.core.periodic import PeriodicThread
from worker.core.storage.storage import Storage
from worker.core.telemetry.heartbeat import HEARTBEAT_INTERVAL_S, remove_heartbeat
from worker.imaging.colour_maps import load_colour_map
from worker.imaging.sandbox.pool import DecoderPool
from worker.imaging.steps.overlay import use_one_opencv_thread
from worker.inference.activity_tracker import ActivityTracker
from worker.inference.batcher import Batcher
from worker.inference.configuration import describe_configuration
from worker.inference.metrics import Metrics
from worker.inference.pipeline import Pipeline
from worker.inference.progress_log import LOG_EVERY_S, ProgressLogger
from worker.inference.watchdog import Watchdog, end_process
from worker.ledger.configurations import register_configuration
from worker.ledger.database import connect
from worker.ledger.database_tls import warn_of_unverified_host
from worker.ledger.leases import register_model
from worker.ledger.migrate import require_compatible
from worker.ledger.worker_presence import announce_worker, end_presence, renew_presence
from worker.maintenance.reconciler import reconcile
from worker.model.bundle.ensemble import ledger_document, load_golden_inputs, load_model
from worker.model.engines.device_options import read_device_options
from worker.model.engines.self_test import start_engine
from worker.report.job import ReportJob

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery
    from sqlalchemy import Engine

    from worker.core.messages import GradeChunk
    from worker.core.settings import Settings

log = structlog.get_logger(__name__)


class Runtime:
    """Everything a worker needs to grade chunks, ready and warmed up once constructed."""

    def __init__(self, settings: Settings, app: Celery) -> None:
        """Open all resources; a failure closes those already open.

        Raises UsageError, ModelError or DatabaseError when the worker cannot work with these settings.
        """
        self.activity = ActivityTracker()
        with ExitStack() as resources:
            self._open(settings, app, resources)
            self._resources = resources.pop_all()

    def grade_chunk(self, chunk: GradeChunk, *, urgent: bool) -> dict[str, int]:
        """Grade one chunk, see `Pipeline.grade_chunk`."""
        return self._pipeline.grade_chunk(chunk, urgent=urgent)

    def write_report(self, run_id: int) -> bool:
        """Write the report of a run, see `ReportJob.write`. It counts as work in flight for the watchdog."""
        with self.activity.track_chunk():
            return self._reports.write(run_id)

    def stop_reports(self) -> None:
        """Leave a report in progress to another worker, so that shutdown does not wait for it."""
        self._reports.stop()

    def close(self) -> None:
        """Close all resources in the reverse order of opening. After a warm shutdown no chunk is in flight."""
        self._resources.close()

    def _open(self, settings: Settings, app: Celery, resources: ExitStack) -> None:
        _log_machine(settings)
        load_colour_map(settings.overlay_colours)  # Fails here rather than at the first image.
        use_one_opencv_thread()
        activity = self.activity
        metrics = Metrics(lambda: activity.chunks_in_flight, app.tracing.record_stage)
        resources.callback(metrics.serve(settings.metrics_host, settings.metrics_port))
        database = connect(settings, pool_size=settings.concurrency + 2)
        resources.callback(database.dispose)
        require_compatible(database)
        warn_of_unverified_host(database)
        worker_id = str(uuid4())
        announce_worker(database, worker_id, settings.queues)
        model = load_model(settings.model)
        register_model(database, model.model_id, model.name, ledger_document(model.manifest))
        decoders = DecoderPool(model.recipe, settings, extra_recipes=model.extra_recipes)
        resources.callback(decoders.close)
        # The pipeline waits between requests outside the transfer threads, which boto3 does inside them.
        storage = Storage(settings, connections=settings.transfer_threads, request_attempts=1)
        if settings.dicomweb_url is not None:
            resources.callback(storage.pacs.close)  # Fails here rather than at the first image.
        golden = load_golden_inputs(settings.model)
        started = start_engine(
            settings.engine,
            settings.precision,
            model,
            golden,
            batch_size=settings.max_batch_size,
            options=read_device_options(settings),
        )
        engine, self_test = started.engine, started.self_test
        configuration = describe_configuration(engine, self_test)
        configuration_id = register_configuration(database, configuration)
        batcher = Batcher(
            metrics.instrument_predict(engine.predict),
            max_batch_size=started.batch_size,
            max_wait_ms=settings.max_wait_ms,
        )
        resources.callback(batcher.close)
        self._pipeline = Pipeline(
            settings=settings,
            database=database,
            storage=storage,
            model=model,
            precision=engine.description.precision,
            configuration_id=configuration_id,
            decoders=decoders,
            batcher=batcher,
            activity=activity,
            metrics=metrics,
            send_report=lambda run_id, run_name: send_report(app, run_id, run_name=run_name),
        )
        resources.callback(self._pipeline.close)
        self._reports = ReportJob(database, settings, activity.touch)
        watchdog = Watchdog(
            activity,
            lambda: sum(queue_depth(app, queue) for queue in settings.queue_names),
            end=end_process,
        )
        resources.callback(remove_heartbeat)
        watchdog.check()
        renew = partial(
            renew_presence,
            database,
            worker_id,
            model.model_id,
            engine.description.precision,
            lease_s=settings.lease_s,
        )
        renew()
        resources.callback(_end_presence, database, worker_id)
        # Stopped in reverse order: the watchdog still runs while the reconciler finishes its pass.
        jobs: list[tuple[str, Callable[[], object], float]] = [
            ("progress", ProgressLogger(database, metrics.settled_by_status).log, LOG_EVERY_S),
            ("watchdog", watchdog.check, HEARTBEAT_INTERVAL_S),
            (
                "reconciler",
                lambda: metrics.count_reconciled(reconcile(database, app, settings, holder=worker_id)),
                settings.reconcile_every_s,
            ),
            ("presence", renew, settings.lease_s / 3),
            ("leases", self._pipeline.renew_leases, settings.lease_s / 3),
        ]
        for name, job, interval_s in jobs:
            resources.callback(PeriodicThread(name, job, interval_s=interval_s).stop)
        log.info(
            "ready",
            model=model.name,
            model_id=model.model_id,
            engine=configuration.engine,
            precision=configuration.precision,
            device=configuration.device,
            configuration_id=configuration_id,
            self_test=None if self_test is None else self_test.figures,
            batch_size=started.batch_size,
            queues=settings.queues,
            chunks_in_flight=settings.concurrency,
        )


def _log_machine(settings: Settings) -> None:
    log.info(
        "machine",
        cores=usable_cores(),
        cpu_quota=read_cpu_quota(),
        memory_limit_bytes=read_memory_limit(),
        decode_processes=settings.decode_processes,
    )
    excess = find_memory_excess(settings.decode_processes, settings.decode_memory_mb)
    if excess is not None:
        log.warning("decoders_exceed_memory", detail=f"{excess}; fix: {DECODER_REMEDY}")


def _end_presence(database: Engine, worker_id: str) -> None:
    try:
        end_presence(database, worker_id)
    except DatabaseError as error:  # the worker ends anyway, and will be counted as dead
        log.warning("end_not_recorded", detail=error.detail)
