"""Enqueue runs and wait until they are graded."""

import itertools
import os
import time
from collections.abc import Sequence

from celery import Celery
from sqlalchemy import Engine, func, select

from producer.runs.enqueue import enqueue
from producer.runs.lifecycle import RunRequest
from worker.core.manifests.image_reference import ImageReference
from worker.core.messaging.broker import make_celery
from worker.core.settings import Settings, parse_settings
from worker.core.vocabulary import Queue, Status
from worker.ledger.database import connect, read_transaction
from worker.ledger.schema import gradings, runs

POLL_S = 0.005

_numbers = itertools.count()


class ProducerClient:
    """A producer with the ledger and the broker of the environment."""

    def __init__(self) -> None:
        self._settings: Settings = parse_settings()
        self._ledger: Engine = connect(self._settings)
        self._broker: Celery = make_celery(self._settings)

    def send(self, uris: Sequence[str], queue: Queue = Queue.BULK) -> str:
        """Register and enqueue a new run and return its name. Live images are sent one per message."""
        name = f"run-{os.getpid()}-{next(_numbers)}"
        request = RunRequest(name, "benchmark", queue=queue, chunk_size=1 if queue == Queue.LIVE else None)
        # The same photograph may be enqueued many times, each time as a different image.
        references = (ImageReference(uri, f"{name}-{number}") for number, uri in enumerate(uris))
        enqueue(self._ledger, self._broker, self._settings, request, references, lambda _found, _new: None)
        return name

    def count_graded(self, name: str) -> int:
        """Return the number of graded images of a run."""
        counted = select(func.count()).join(runs, runs.c.run_id == gradings.c.run_id)
        counted = counted.where(runs.c.name == name, gradings.c.status == Status.GRADED)
        with read_transaction(self._ledger) as connection:
            return int(connection.scalar(counted) or 0)

    def wait_until_idle(self) -> None:
        """Wait until no image is leased."""
        leased = select(func.count()).where(gradings.c.lease_token.is_not(None))
        while True:
            with read_transaction(self._ledger) as connection:
                if not connection.scalar(leased):
                    return
            time.sleep(10 * POLL_S)

    def wait(self, name: str, count: int) -> None:
        """Wait until at least `count` images of the run are graded."""
        pause_s = min(0.2, POLL_S * max(1.0, count / 32))
        while self.count_graded(name) < count:
            time.sleep(pause_s)

    def grade(self, uris: Sequence[str], queue: Queue = Queue.BULK) -> float:
        """Grade images as a new run. Returns seconds from the first registered to the last settled row."""
        started = time.perf_counter()
        self.wait(self.send(uris, queue), len(uris))
        return time.perf_counter() - started
