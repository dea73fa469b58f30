"""Consume the queue `live` separately, so that a clinic's image does not wait for a bulk chunk to finish."""

from typing import ClassVar

from worker.consumer.side_queue import SideQueueConsumer
from worker.core.vocabulary import Queue

MAX_LIVE_CHUNKS = 4
"""Live chunks in flight in one worker, in addition to bulk chunks."""


class LiveQueueConsumer(SideQueueConsumer):
    """Processes up to MAX_LIVE_CHUNKS live chunks in addition to the bulk chunks."""

    queue: ClassVar[str] = Queue.LIVE
    along_with: ClassVar[frozenset[str]] = frozenset({Queue.BULK})
    max_in_flight: ClassVar[int] = MAX_LIVE_CHUNKS
