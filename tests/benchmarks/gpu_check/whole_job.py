"""The whole job on one device: photographs in a folder to overlays in a folder and rows in SQLite, over Valkey."""

import os
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from prometheus_client.parser import text_string_to_metric_families

from producer.demo.embedded_valkey import embedded_valkey, free_port
from tests.benchmarks.producer_client import ProducerClient
from tests.integration.processes import FUNDUS, READY, wait_for, worker
from worker.core.machine import usable_cores
from worker.core.settings import parse_settings
from worker.core.uris import file_uri
from worker.ledger.database import connect
from worker.ledger.migrate import upgrade

READY_WITHIN_S = 400.0
"""Compiling each batch size takes minutes where no compiled network is found."""
WARM_UP = 16
BUSY, BATCHES, BATCHED = (f"fundus_worker_{name}" for name in (
    "engine_busy_seconds_total", "batch_images_count", "batch_images_sum"
))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Job:
    """images/s of `workers` commands with `processes` each.

    busy: seconds in the engine for each second, over all processes. batch: mean size of a batch. worker_ms, decoder_ms:
    CPU milliseconds of the worker processes, with the engine's on a processor, and of the decoding processes for an
    image.
    """

    workers: int
    processes: int
    images: int
    rate: float
    busy: float
    batch: float
    worker_ms: float
    decoder_ms: float

    @property
    def host_bound(self) -> float:
        """Most images/s of all usable cores."""
        return usable_cores() * 1000 / (self.worker_ms + self.decoder_ms)


@contextmanager
def open_services(photographs: Sequence[bytes], settings: Mapping[str, str]) -> Iterator[list[str]]:
    """Run Valkey, create a ledger and a folder of photographs; yields their URIs. Sets FUNDUS_ variables meanwhile."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as folder, embedded_valkey(Path(folder) / "valkey") as broker_url:
        scratch = Path(folder)
        os.environ |= {
            "FUNDUS_DATABASE_URL": f"sqlite:///{scratch}/ledger.db",
            "FUNDUS_BROKER_URL": broker_url,
            "FUNDUS_STORAGE_URL": file_uri(scratch / "overlays"),
            "FUNDUS_LOG_LEVEL": "info",
            "FUNDUS_REPORTS": "false",
            **settings,
        }
        try:
            engine = connect(parse_settings())
            upgrade(engine)
            engine.dispose()
            paths = [scratch / f"{number:04}.jpg" for number in range(len(photographs))]
            for path, data in zip(paths, photographs, strict=True):
                path.write_bytes(data)
            yield [file_uri(path) for path in paths]
        finally:
            os.environ.clear()
            os.environ.update(before)


def run_job(uris: Sequence[str], images: int, *, workers: int = 1, processes: int = 1) -> Job:
    """Start workers, grade a first run to warm them up, then measure a run of `images` images."""
    producer = ProducerClient()
    repeated = [uris[number % len(uris)] for number in range(images)]
    with _workers(workers, processes) as (pids, ports):
        producer.grade(repeated[: WARM_UP * workers * processes])
        metrics, spent = _read_metrics(ports), _read_cpu_time(pids)
        seconds = producer.grade(repeated)
        metrics_after, spent_after = _read_metrics(ports), _read_cpu_time(pids)
    done = {name: metrics_after[name] - metrics[name] for name in (BUSY, BATCHES, BATCHED)}
    cost_ms = {role: (spent_after[role] - spent[role]) / images * 1000 for role in ("worker", "decoder")}
    return Job(
        workers, processes, images, images / seconds, done[BUSY] / seconds, done[BATCHED] / done[BATCHES],
        cost_ms["worker"], cost_ms["decoder"],
    )  # fmt: skip


@contextmanager
def _workers(workers: int, processes: int) -> Iterator[tuple[list[int], list[int]]]:
    """Start `fundus worker` commands that share the device; yields their process ids and metrics ports."""
    ports: list[int] = []
    with ExitStack() as running, tempfile.TemporaryDirectory() as folder:
        pids = []
        for number in range(workers):
            port, log = free_port(), Path(folder) / f"{number}.log"
            ports += range(port, port + processes)
            command = (str(FUNDUS), "worker", "--processes", str(processes), "--name", f"check-{number}")
            env = {"FUNDUS_METRICS_PORT": str(port)}
            process = running.enter_context(worker(env, log, *command, ready_within_s=READY_WITHIN_S))
            wait_for(lambda: len(READY.findall(log.read_text())) >= processes, process, log, READY_WITHIN_S)  # noqa: B023
            pids.append(process.pid)
        yield pids, ports


def _read_metrics(ports: Sequence[int]) -> Counter[str]:
    total: Counter[str] = Counter()
    for port in ports:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
            text = response.read().decode()
        total.update({
            sample.name: sample.value
            for family in text_string_to_metric_families(text) for sample in family.samples
            if sample.name in (BUSY, BATCHES, BATCHED)
        })  # fmt: skip
    return total


def _read_cpu_time(pids: Sequence[int]) -> Counter[str]:
    """Return CPU seconds so far of worker and decoding processes."""
    spent: Counter[str] = Counter()
    for pid in pids:
        for process in (root := psutil.Process(pid), *root.children(recursive=True)):
            times, words = process.cpu_times(), " ".join(process.cmdline())
            spent["decoder" if "decoder_program" in words else "worker"] += times.user + times.system
    return spent
