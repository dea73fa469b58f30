"""Consume beat's duties separately, so that a night starts on time while bulk chunks wait."""

from typing import ClassVar

from worker.consumer.side_queue import SideQueueConsumer
from worker.core.vocabulary import DUTIES, Queue

MAX_DUTIES = 3
"""Duties in flight in one worker, in addition to chunks: one of each kind."""


class DutyQueueConsumer(SideQueueConsumer):
    """Processes up to MAX_DUTIES duties in addition to the bulk chunks."""

    queue: ClassVar[str] = DUTIES
    along_with: ClassVar[frozenset[str]] = frozenset({Queue.BULK})
    max_in_flight: ClassVar[int] = MAX_DUTIES
