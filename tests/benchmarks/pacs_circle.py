"""Kill worker and publisher while photographs of a PACS are graded and their results return to it."""

import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import ColumnElement, Engine, Table, func, select

from tests.benchmarks.producer_client import ProducerClient
from tests.faults.supervisor import Supervisor
from tests.integration.processes import FUNDUS
from tests.services.publisher_process import start_publisher
from worker.core.settings import parse_settings
from worker.core.vocabulary import PublicationState, Status
from worker.ledger.database import connect, epoch_now, read_transaction
from worker.ledger.outbox_schema import outbox
from worker.ledger.runs import Run, find_run
from worker.ledger.schema import gradings
from worker.publishing.passes import publish_run

POLL_S = 0.02
SHORT_LEASE = {"lease_s": 6, "max_attempts": 20}
RECOVERY = {
    # The supervisor reads in the log that a worker is ready.
    "FUNDUS_LOG_LEVEL": "info",
    "FUNDUS_LEASE_S": "6",
    "FUNDUS_RESEND_AFTER_S": "4",
    "FUNDUS_RECONCILE_EVERY_S": "1",
    # An image that is alone in a worker counts as a suspect when that worker is killed by chance.
    "FUNDUS_MAX_ATTEMPTS": "20",
}
"""Settings of a worker and a publisher that are killed: what they held is due again within seconds."""


@dataclass(frozen=True)
class KilledRun:
    """A run whose worker and publisher were killed. seconds: from the first registered image to the last object."""

    run: str
    seconds: float
    kills: Mapping[str, int]


def run_with_kills(
    producer: ProducerClient, environment: Mapping[str, str], folder: Path, uris: list[str], kills: int
) -> KilledRun:
    """Grade and publish a run, and kill worker and publisher in turn while they hold images and objects."""
    environment = {**environment, **RECOVERY}
    supervisor = Supervisor([FUNDUS, "worker"], 1, environment, folder)
    engine = connect(parse_settings())
    try:
        _until(supervisor.ready)
        started = time.perf_counter()
        circle = Circle(engine, find_run(engine, producer.send(uris)), supervisor, environment)
        killed = circle.kill_in_turn(kills, len(uris))
        while not circle.is_complete(len(uris)):
            supervisor.restart_dead()
            publish_run(parse_settings(**SHORT_LEASE), circle.run.name)
            time.sleep(POLL_S)
        return KilledRun(circle.run.name, time.perf_counter() - started, killed)
    finally:
        supervisor.stop()
        engine.dispose()


@dataclass(frozen=True)
class Circle:
    """A run whose worker and publishers are killed and started again."""

    engine: Engine
    run: Run
    supervisor: Supervisor
    environment: Mapping[str, str]

    def kill_in_turn(self, kills: int, images: int) -> dict[str, int]:
        """Kill the worker, then a publisher, and so on; publishers alone once nothing is left to grade."""
        killed, chance = {"worker": 0, "publisher": 0}, random.Random(kills)
        for number in range(kills):
            if number % 2 == 0 and self._until_worker_holds():
                time.sleep(chance.uniform(0, 1))
                self.supervisor.signal(0, signal.SIGKILL)
                killed["worker"] += 1
                ends = killed["worker"]
                _until(lambda ends=ends: len(self.supervisor.exits) == ends, self.supervisor.restart_dead)
            else:
                self._kill_publisher(chance.uniform(0, 0.3), images)
                killed["publisher"] += 1
            print(f"killed {killed}", flush=True)
        return killed

    def is_complete(self, images: int) -> bool:
        """Whether each image is settled and each of its objects published."""
        is_open = func.count().filter(outbox.c.state != PublicationState.PUBLISHED)
        left, objects = self._count(outbox, is_open, func.count())
        return self._count_gradings()[0] == left == 0 and objects >= images

    def _until_worker_holds(self) -> bool:
        """Wait until a worker has leased images; return false if none are left to grade."""
        while True:
            queued, leased = self._count_gradings()
            if queued == 0 or (leased and self.supervisor.ready_workers()):
                return queued > 0
            self.supervisor.restart_dead()
            time.sleep(POLL_S)

    def _kill_publisher(self, after_s: float, images: int) -> None:
        """Start publishers until one holds objects, and kill it some time afterwards."""
        held = func.count().filter(outbox.c.lease_token.is_not(None), outbox.c.due_at > epoch_now())
        while True:
            assert not self.is_complete(images), "everything was published before the last kill: use more images"
            publisher = start_publisher(self.run.name, dict(self.environment))
            while publisher.is_alive() and not self._count(outbox, held, func.count())[0]:
                self.supervisor.restart_dead()
                time.sleep(POLL_S)
            publisher.join(after_s)
            if publisher.is_alive():
                publisher.kill()
                publisher.join()
                return

    def _count_gradings(self) -> tuple[int, int]:
        """Return the numbers of queued and of leased images."""
        is_queued = func.count().filter(gradings.c.status == Status.QUEUED)
        return self._count(gradings, is_queued, func.count(gradings.c.lease_token))

    def _count(self, table: Table, *counts: ColumnElement[int]) -> tuple[int, int]:
        with read_transaction(self.engine) as connection:
            first, second = connection.execute(select(*counts).where(table.c.run_id == self.run.run_id)).one()
        return int(first), int(second)


def _until(condition: Callable[[], bool], meanwhile: Callable[[], object] = lambda: None) -> None:
    while not condition():
        meanwhile()
        time.sleep(POLL_S)
