"""Celery's thread pool with threads for the queues that are consumed on channels of their own."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery.concurrency import thread

from worker.consumer.duty_queue import MAX_DUTIES
from worker.consumer.live_queue import MAX_LIVE_CHUNKS


class TaskPool(thread.TaskPool):  # type: ignore[misc]
    """Thread pool with extra threads for live chunks and duties, which its prefetch count does not include."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.executor = ThreadPoolExecutor(max_workers=self.limit + MAX_LIVE_CHUNKS + MAX_DUTIES)
