"""What a worker process holds while it lives: the model, its connections, its threads and its duties."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import structlog

from worker.core.messaging.broker import queue_depth, send_report
from worker.core.periodic import PeriodicThread
from worker.core.storage.object_store import Storage
from worker.core.telemetry.heartbeat import HEARTBEAT_INTERVAL_S, remove_heartbeat
from worker.imaging.sandbox.pool import DecoderPool
from worker.imaging.steps.overlay import load_colour_map, use_one_opencv_thread
from worker.inference.batcher import Batcher
from worker.inference.metrics import Metrics
from worker.inference.pipeline import Pipeline
from worker.inference.progress_log import LOG_EVERY_S, ProgressLogger
from worker.inference.watchdog import ActivityTracker, Watchdog, end_process
from worker.ledger.database import connect
from worker.ledger.leases import register_model
from worker.ledger.migrate import require_current
from worker.maintenance.reconciler import reconcile
from worker.model.bundle.ensemble import load_model
from worker.model.engines.factory import make_engine
from worker.report.job import ReportJob

if TYPE_CHECKING:
    from celery import Celery

    from worker.core.messages import GradeChunk
    from worker.core.settings import Settings

log = structlog.get_logger(__name__)


class Runtime:
    """Built and warm before the first message is taken; closed after the last chunk has been settled."""

    def __init__(self, settings: Settings, app: Celery) -> None:
        """Raises UsageError, ModelError or DatabaseError when the worker could not do its work."""
        load_colour_map(settings.overlay_colours)  # an unknown name stops the worker here, not at the first image
        use_one_opencv_thread()
        self.activity = activity = ActivityTracker()
        metrics = Metrics(lambda: activity.chunks_in_flight, app.tracing.stage)
        self._stop_serving = metrics.serve(settings.metrics_host, settings.metrics_port)
        database = connect(settings, pool_size=settings.concurrency + 2)
        require_current(database)
        bundle = load_model(settings.model)
        register_model(database, bundle.model_id, bundle.name, bundle.manifest.model_dump(mode="json"))
        self._decoders = DecoderPool(bundle.recipe, settings, extra_recipes=bundle.extra_recipes)
        engine = make_engine(settings.engine, bundle)
        engine.warm_up(settings.max_batch_size)
        self._batcher = Batcher(
            metrics.instrument_predict(engine.predict),
            max_batch_size=settings.max_batch_size,
            max_wait_ms=settings.max_wait_ms,
        )
        storage = Storage(settings, connections=settings.transfer_threads)
        self._pipeline = Pipeline(
            settings,
            database,
            storage,
            bundle,
            self._decoders,
            self._batcher,
            activity,
            metrics,
            send_for_report=lambda run_id, run_name: send_report(app, run_id, run_name=run_name),
        )
        self._reports = ReportJob(database, settings, activity.touch)
        watchdog = Watchdog(
            activity,
            lambda: sum(queue_depth(app, queue) for queue in settings.queue_names),
            end=end_process,
        )
        watchdog.check()
        holder = str(uuid4())
        self._periodic_threads = [
            PeriodicThread("leases", self._pipeline.renew_leases, interval_s=settings.lease_s / 3),
            PeriodicThread(
                "reconciler",
                lambda: metrics.count_reconciled(reconcile(database, app, settings, holder=holder)),
                interval_s=settings.reconcile_every_s,
            ),
            PeriodicThread("watchdog", watchdog.check, interval_s=HEARTBEAT_INTERVAL_S),
            PeriodicThread("progress", ProgressLogger(database, metrics.settled_by_status).log, interval_s=LOG_EVERY_S),
        ]
        self._database = database
        log.info(
            "ready",
            model=bundle.name,
            model_id=bundle.model_id,
            device=engine.device,
            batch_size=settings.max_batch_size,
            queues=settings.queues,
            chunks_in_flight=settings.concurrency,
        )

    def grade_chunk(self, chunk: GradeChunk, *, urgent: bool) -> dict[str, int]:
        """See `Pipeline.grade_chunk`."""
        return self._pipeline.grade_chunk(chunk, urgent=urgent)

    def write_report(self, run_id: int) -> bool:
        """See `ReportJob.write`. It is work: the watchdog lets it take its time as long as it goes on."""
        with self.activity.track_chunk():
            return self._reports.write(run_id)

    def stop_reports(self) -> None:
        """A report under way is left to another worker: no shutdown waits for it."""
        self._reports.stop()

    def close(self) -> None:
        """Stop in the order in which work flows. After a warm shutdown no chunk is in flight any more."""
        for thread in self._periodic_threads:
            thread.stop()
        remove_heartbeat()
        self._pipeline.close()
        self._batcher.close()
        self._decoders.close()
        self._database.dispose()
        self._stop_serving()
