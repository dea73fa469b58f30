from datetime import timedelta

import pytest
from sqlalchemy import Engine

from producer.runs.cancel import cancel
from tests.unit.producer.ledger_rows import NOON, add_model, fail, grade, make_run, references
from worker.core.vocabulary import Grade, Status
from worker.ledger.database import read_transaction
from worker.ledger.status import describe_progress, read_overview, read_progress
from worker.ledger.throughput import read_throughput


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


def test_overall_throughput_excludes_the_first_chunk(engine: Engine) -> None:
    run = make_run(engine, "night", references(*"abcde"))
    for image_id, after in zip("abcde", (0, 0, 5, 10, 10), strict=True):
        fail(engine, run, image_id, "x", at=NOON + seconds(after))

    with read_transaction(engine) as connection:
        throughput = read_throughput(connection, run.run_id, NOON + seconds(1000))

    assert (throughput.overall, throughput.recent) == (3 / 10, None)


def test_recent_throughput_covers_the_last_minute(engine: Engine) -> None:
    run = make_run(engine, "night", references(*"abcd"))
    for image_id, after in zip("abcd", (0, 130, 150, 190), strict=True):
        fail(engine, run, image_id, "x", at=NOON + seconds(after))

    with read_transaction(engine) as connection:
        throughput = read_throughput(connection, run.run_id, NOON + seconds(200))

    assert (throughput.overall, throughput.recent) == (3 / 190, 2 / 60)


def test_throughput_of_one_chunk_is_unknown(engine: Engine) -> None:
    run = make_run(engine, "night", references(*"abc"))
    for image_id, after in zip("abc", (0, 0.000012, 0.000034), strict=True):
        fail(engine, run, image_id, "x", at=NOON + seconds(after))

    with read_transaction(engine) as connection:
        throughput = read_throughput(connection, run.run_id, NOON + seconds(30))

    assert (throughput.overall, throughput.recent) == (None, None)


@pytest.mark.parametrize("settled", [0, 1])
def test_throughput_of_one_image_is_unknown(engine: Engine, settled: int) -> None:
    run = make_run(engine, "night", references("a", "b"))
    for image_id in "ab"[:settled]:
        fail(engine, run, image_id, "x")

    progress = read_progress(engine, "night")

    assert (progress.throughput.overall, progress.throughput.recent, progress.seconds_left) == (None, None, None)


def test_time_left_is_queued_images_divided_by_throughput(engine: Engine) -> None:
    run = make_run(engine, "night", references(*"abcdefgh"))
    for image_id, after in zip("abc", (0, 10, 20), strict=True):
        fail(engine, run, image_id, "x", at=NOON + seconds(after))

    assert read_progress(engine, "night").seconds_left == 5 / (2 / 20)


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
