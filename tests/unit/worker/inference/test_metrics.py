"""Metrics of a worker, parsed from the text that Prometheus scrapes."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.services.ports import reserve_port
from worker.core.errors import AcceleratorMemoryError, StorageError, UsageError
from worker.core.predictions import GradeDecision, Outcome
from worker.core.vocabulary import Grade, Status
from worker.inference.metrics import Metrics, Stage
from worker.ledger.leases import LeasedImage
from worker.maintenance.reconciler import ReconcileResult

Samples = dict[tuple[str, ...], float]


@contextmanager
def served(metrics: Metrics) -> Iterator[str]:
    port = reserve_port()
    close = metrics.serve("127.0.0.1", port)
    try:
        yield f"http://127.0.0.1:{port}/metrics"
    finally:
        close()


def scrape(metrics: Metrics) -> Samples:
    with served(metrics) as url:
        return read(url)


def read(url: str) -> Samples:
    """Scrape `url`; return values by metric name and label values, sorted by label name."""
    with urlopen(url, timeout=10) as response:
        text = response.read().decode()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def graded(image_id: str, grade: Grade) -> Outcome:
    decision = GradeDecision(grade, grade >= Grade.MODERATE, np.zeros(5, np.float32))
    return Outcome(image_id, Status.GRADED, decision=decision)


def test_labels_hold_no_run_image_or_person() -> None:
    metrics = Metrics(lambda: 2)
    assert set(metrics.settled_by_status().values()) == {0}
    outcomes = [
        graded("a", Grade.MILD),
        graded("b", Grade.MILD),
        graded("c", Grade.SEVERE),
        Outcome("d", Status.UNGRADABLE, error_code="blurred"),
        Outcome("e", Status.FAILED, error_code="image_missing"),
    ]
    attempts = zip("abcde", (1, 1, 2, 3, 7), strict=True)
    metrics.count_leased([LeasedImage(name, "file:///secret.jpg", None, number) for name, number in attempts])
    metrics.count_settled(outcomes, [StorageError("bucket anna-miller is unreachable")])
    metrics.count_lost(4)
    metrics.count_reconciled(None)
    metrics.count_reconciled(ReconcileResult(quarantined=1, sent_alone=2))
    found = scrape(metrics)
    values = {key[0].removeprefix("fundus_worker_") + "".join(f" {k}" for k in key[1:]): v for key, v in found.items()}
    assert {name: values[f"images_total {name}"] for name in ("graded", "ungradable", "failed")} == {
        "graded": 3, "ungradable": 1, "failed": 1,
    }  # fmt: skip
    assert [values[f"graded_images_total {grade}"] for grade in range(5)] == [0, 2, 0, 1, 0]
    assert values["errors_total blurred ungradable"] == values["errors_total image_missing failed"] == 1
    assert values["released_images_total storage_unavailable"] == 1
    assert [values[f"attempts_total {attempt}"] for attempt in (1, 2, 3)] == [2, 1, 2]
    assert values["lost_images_total"] == 4
    assert (values["reconciled_total quarantined"], values["reconciled_total sent_alone"]) == (1, 2)
    assert values["chunks_in_flight"] == 2
    assert all(key[0].startswith("fundus_worker_") for key in found)
    assert not any(word in str(found) for word in ("secret", "anna", "miller"))


def test_counters_start_at_zero() -> None:
    found = scrape(Metrics(lambda: 0))
    assert {found["fundus_worker_stage_seconds_count", stage] for stage in Stage} == {0}
    assert {found["fundus_worker_images_total", s] for s in ("graded", "ungradable", "failed")} == {0}
    assert found["fundus_worker_engine_busy_seconds_total",] == 0


def test_stage_is_timed_also_when_it_fails() -> None:
    metrics = Metrics(lambda: 0)
    with pytest.raises(StorageError), metrics.time_stage(Stage.FETCH):
        raise StorageError("unreachable")
    metrics.record_stage(Stage.INFER, 10.0, 10.2)
    found = scrape(metrics)
    assert found["fundus_worker_stage_seconds_count", "fetch"] == 1
    assert found["fundus_worker_stage_seconds_sum", "infer"] == pytest.approx(0.2)
    within = [found["fundus_worker_stage_seconds_bucket", le, "infer"] for le in ("0.1", "0.25", "+Inf")]
    assert within == [0, 1, 1]


def test_batch_sizes_and_engine_time_are_recorded() -> None:
    metrics = Metrics(lambda: 0)
    delay = threading.Event()

    def predict(batch: Sequence[int]) -> list[int]:
        delay.wait(0.1)
        if len(batch) > 2:
            raise AcceleratorMemoryError("does not fit")
        return [2 * image for image in batch]

    instrumented = metrics.instrument_predict(predict)
    assert instrumented([1, 2]) == [2, 4]
    with pytest.raises(AcceleratorMemoryError):
        instrumented([1, 2, 3])
    found = scrape(metrics)
    assert found["fundus_worker_batch_images_sum",] == 5
    assert found["fundus_worker_batch_images_bucket", "2.0"] == 1
    assert found["fundus_worker_engine_busy_seconds_total",] == pytest.approx(0.2, abs=0.15)


def test_server_runs_only_with_a_port_and_until_it_is_closed() -> None:
    Metrics(lambda: 0).serve("127.0.0.1", None)()
    with served(Metrics(lambda: 0)) as url:
        assert read(url)
    with pytest.raises(URLError):
        read(url)


def test_error_names_the_port_in_use() -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=rf"FUNDUS_METRICS_PORT: cannot listen on 127.0.0.1:{port}: "):
            Metrics(lambda: 0).serve("127.0.0.1", port)
