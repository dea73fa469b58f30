"""The progress line combines the counts of the worker with the queue of the ledger."""

import pytest
from sqlalchemy import Engine, func
from structlog.testing import capture_logs

from tests.unit.worker.ledger.ledger_rows import add_run, change
from worker.core.vocabulary import Status
from worker.inference import progress_log
from worker.inference.progress_log import ProgressLogger, count_queued_images

NOTHING = {Status.GRADED: 0, Status.UNGRADABLE: 0, Status.FAILED: 0}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The last number is the current monotonic time."""
    times = [100.0]
    monkeypatch.setattr(progress_log, "monotonic", lambda: times[-1])
    return times


def settle(engine: Engine, *image_ids: str) -> None:
    for image_id in image_ids:
        change(engine, image_id, status=Status.FAILED, error_code="image_missing", settled_at=func.now())


def test_line_has_throughput_failures_and_time_left(engine: Engine, clock: list[float]) -> None:
    names = [f"i{number}" for number in range(10)]
    add_run(engine, names)
    counts = dict(NOTHING)
    logger = ProgressLogger(engine, lambda: counts)
    with capture_logs() as lines:
        logger.log()  # nothing settled yet: no line
        counts[Status.GRADED], counts[Status.FAILED] = 1, 1
        settle(engine, *names[:2])
        clock.append(110.0)
        logger.log()
        counts[Status.GRADED] = 3
        settle(engine, *names[2:6])  # another worker has settled two of them
        clock.append(130.0)
        logger.log()
        clock.append(160.0)
        logger.log()
    assert [{name: line[name] for name in line if name not in ("event", "log_level")} for line in lines] == [
        {"images": 2, "not_graded": 1, "images_per_s": 0.2, "left": 8},
        # The queue fell from 8 to 4 in 20 s, so the other 4 take 20 s.
        {"images": 4, "not_graded": 1, "images_per_s": 0.1, "left": 4, "minutes_left": 0.3},
    ]


def test_only_queued_images_of_open_runs_are_counted(engine: Engine) -> None:
    add_run(engine, ["a", "b"], state="open")
    add_run(engine, ["c"], name="over", state="cancelled")
    settle(engine, "b")
    assert count_queued_images(engine) == 1
