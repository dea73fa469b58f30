from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import Engine, update

from producer.runs.cancel import cancel
from tests.unit.producer.ledger_rows import NOON, add_model, fail, grade, make_run, references
from worker.core.vocabulary import Grade, Status
from worker.ledger.database import read_transaction, write_transaction
from worker.ledger.runs import Run
from worker.ledger.schema import gradings
from worker.ledger.status import describe_progress, read_overview, read_progress
from worker.ledger.throughput import BusyTime, Throughput, read_busy_time, read_recent_rate


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def test_every_image_is_counted_once(engine: Engine) -> None:
    add_model(engine)
    run = make_run(engine, "night", references(*"abcdefg"))
    grade(engine, run, "a", 0)
    grade(engine, run, "b", 2)
    grade(engine, run, "c", 2)
    fail(engine, run, "d", "image_format")
    fail(engine, run, "e", "field_dark", Status.UNGRADABLE)
    fail(engine, run, "f", "attempts_exhausted", Status.QUARANTINED)

    progress = read_progress(engine, "night")

    assert {str(status): count for status, count in progress.counts.by_status.items()} == {
        "queued": 1,
        "graded": 3,
        "ungradable": 1,
        "failed": 1,
        "quarantined": 1,
        "cancelled": 0,
    }
    assert [progress.counts.by_grade[Grade(number)] for number in range(5)] == [1, 0, 2, 0, 0]
    assert (progress.counts.total, progress.counts.settled, progress.is_over) == (7, 6, False)


def test_errors_are_ordered_by_frequency(engine: Engine) -> None:
    run = make_run(engine, "night", references(*"abcd"))
    fail(engine, run, "a", "image_format")
    fail(engine, run, "b", "field_dark", Status.UNGRADABLE)
    fail(engine, run, "c", "field_dark", Status.UNGRADABLE)
    fail(engine, run, "d", "image_damaged")

    errors = read_progress(engine, "night").errors

    assert list(errors.items()) == [("field_dark", 2), ("image_damaged", 1), ("image_format", 1)]


def settle(engine: Engine, run: Run, images: Sequence[str], leased: float, settled: float) -> None:
    """Settle images as failed, leased and settled at these seconds after noon."""
    with write_transaction(engine) as connection:
        connection.execute(
            update(gradings)
            .where(gradings.c.run_id == run.run_id, gradings.c.image_id.in_(images))
            .values(
                status=Status.FAILED,
                error_code="x",
                leased_at=NOON + seconds(leased),
                settled_at=NOON + seconds(settled),
            )
        )


def busy(engine: Engine, run: Run) -> BusyTime | None:
    with read_transaction(engine) as connection:
        return read_busy_time(connection, run.run_id)


def recent(engine: Engine, run: Run, at: float, settled: int = 120) -> float | None:
    with read_transaction(engine) as connection:
        return read_recent_rate(connection, run.run_id, settled, NOON + seconds(at))


NAMES = [f"i{number:03}" for number in range(120)]


def test_images_settled_at_once_count_the_time_since_their_lease(engine: Engine) -> None:
    run = make_run(engine, "night", references(*NAMES))
    settle(engine, run, NAMES[:60], 0, 60)
    settle(engine, run, NAMES[60:], 0.5, 60.5)

    work = busy(engine, run)
    assert work == BusyTime(120, 60.5)
    assert work.rate == 120 / 60.5


def test_later_work_adds_its_own_time_alone(engine: Engine) -> None:
    run = make_run(engine, "night", references(*NAMES))
    settle(engine, run, NAMES[:110], 0, 50)
    settle(engine, run, NAMES[110:], 7200, 7210)

    assert busy(engine, run) == BusyTime(120, 60)


def test_images_of_two_workers_at_once_count_the_time_once(engine: Engine) -> None:
    run = make_run(engine, "night", references(*NAMES))
    settle(engine, run, NAMES[:60], 0, 40)
    settle(engine, run, NAMES[60:90], 10, 20)
    settle(engine, run, NAMES[90:], 20, 50)

    assert busy(engine, run) == BusyTime(120, 50)


def test_under_a_hundred_images_no_rate_is_given(engine: Engine) -> None:
    run = make_run(engine, "night", references(*NAMES))
    settle(engine, run, NAMES[:99], 0, 50)

    work = busy(engine, run)
    assert work == BusyTime(99, 50)
    assert (work.rate, recent(engine, run, 60, settled=99)) == (None, None)


def test_recent_throughput_covers_the_last_minute(engine: Engine) -> None:
    run = make_run(engine, "night", references(*NAMES))
    settle(engine, run, NAMES[:60], 0, 100)
    settle(engine, run, NAMES[60:], 100, 170)

    assert recent(engine, run, 200) == 60 / 60


def test_recent_throughput_begins_with_the_first_lease(engine: Engine) -> None:
    run = make_run(engine, "night", references(*NAMES))
    settle(engine, run, NAMES, 0, 20)

    assert recent(engine, run, 40) == 120 / 40


def test_cancelled_images_are_no_work(engine: Engine) -> None:
    run = make_run(engine, "night", references(*NAMES, "late"))
    settle(engine, run, NAMES, 0, 60)
    cancel(engine, "night")

    progress = read_progress(engine, "night")

    assert progress.throughput == Throughput(None, BusyTime(120, 60))
    assert (progress.counts.settled, progress.counts.processed) == (121, 120)


def test_images_without_a_time_of_lease_have_no_throughput(engine: Engine) -> None:
    run = make_run(engine, "night", references("a", "b"))
    fail(engine, run, "a", "x")

    progress = read_progress(engine, "night")

    assert progress.throughput == Throughput(None, None)
    assert progress.seconds_left is None


def test_time_left_is_queued_images_divided_by_throughput(engine: Engine) -> None:
    run = make_run(engine, "night", references(*NAMES))
    settle(engine, run, NAMES[:100], 0, 20)

    assert read_progress(engine, "night").seconds_left == 20 / (100 / 20)


def test_json_has_the_documented_keys_first(engine: Engine) -> None:
    make_run(engine, "night", references("a"))

    document = describe_progress(read_progress(engine, "night"))

    assert list(document)[:9] == [
        "run", "state", "total", "queued", "graded", "ungradable", "failed", "quarantined", "cancelled",
    ]  # fmt: skip
    assert (document["run"], document["state"], document["total"], document["queued"]) == ("night", "running", 1, 1)
    assert document["grades"] == {"0": 0, "1": 0, "2": 0, "3": 0, "4": 0}


def test_cancelled_run_is_over(engine: Engine) -> None:
    make_run(engine, "night", references("a"))
    cancel(engine, "night")

    assert read_progress(engine, "night").is_over


def test_overview_shows_the_newest_first(engine: Engine) -> None:
    make_run(engine, "one", references("a", "b"))
    make_run(engine, "two", [])
    make_run(engine, "three", references("a"))

    assert [(run.name, counts.total) for run, counts in read_overview(engine, 2)] == [("three", 1), ("two", 0)]


def test_overview_of_an_empty_ledger_is_empty(engine: Engine) -> None:
    assert read_overview(engine, 20) == []
