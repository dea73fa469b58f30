import json
from datetime import UTC, datetime, time, timedelta

import pytest
from sqlalchemy import Engine, update
from typer.testing import CliRunner

from producer import capacity
from producer.capacity import DECODE_MS, PROCESS_MS, WorkerRate, estimate_capacity, limit_rate, read_worker_rate
from producer.cli import app
from tests.unit.producer.ledger_rows import make_run, references
from worker.core.errors import RunError, UsageError
from worker.core.settings import read_settings
from worker.ledger.database import write_transaction
from worker.ledger.migrate import open_ledger
from worker.ledger.schema import gradings, runs

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def settle(engine: Engine, name: str, images: int, rate: float, *, finished: bool = True) -> None:
    """Make a run whose images were leased and settled one after the other, each in 1 / rate seconds, from noon on."""
    run = make_run(engine, name, references(*(f"{name}-{number}" for number in range(images))))
    with write_transaction(engine) as connection:
        for number in range(images):
            leased_at, settled_at = (NOON + timedelta(seconds=count / rate) for count in (number, number + 1))
            settled = {"status": "failed", "error_code": "x", "leased_at": leased_at, "settled_at": settled_at}
            of_image = (gradings.c.run_id == run.run_id, gradings.c.image_id == f"{name}-{number}")
            connection.execute(update(gradings).where(*of_image).values(settled))
        state = {"state": "finished", "finished_at": NOON} if finished else {"state": "cancelled"}
        connection.execute(update(runs).where(runs.c.run_id == run.run_id).values(state))


@pytest.mark.parametrize(
    ("images", "begin", "by", "spare", "workers", "done"),
    [
        # In five hours, 18,000 s, a worker of 2 images/s grades 36,000 images.
        (36_000, time(1), time(6), 0.0, 1, time(6)),
        (36_001, time(1), time(6), 0.0, 2, time(3, 30)),
        (36_000, time(1), time(6), 0.2, 2, time(3, 30)),
        (28_800, time(1), time(6), 0.2, 1, time(5)),
        # Eight hours across midnight. Equal times mean a whole day.
        (100_000, time(22), time(6), 0.0, 2, time(4, 56, 40)),
        (172_800, time(6), time(6), 0.0, 1, time(6)),
        (1, time(1), time(6), 0.2, 1, time(1, 0, 0, 500_000)),
    ],
)
def test_workers_are_images_over_time_and_rate(
    images: int, begin: time, by: time, spare: float, workers: int, done: time
) -> None:
    estimate = estimate_capacity(images, begin, by, WorkerRate(2.0), spare)
    assert estimate.workers == workers
    assert estimate.done.replace(microsecond=0) == done.replace(microsecond=0)


@pytest.mark.parametrize(
    ("processes", "cores", "rate", "limited_by"),
    [
        (64, 10_000, 900.0, None),
        (1, 10_000, 1000 / PROCESS_MS, "1 worker process"),
        (2, 10_000, 2000 / PROCESS_MS, "2 worker processes"),
        (64, 1, 1000 / (PROCESS_MS + DECODE_MS), "1 core"),
        (4, 4, 4000 / (PROCESS_MS + DECODE_MS), "4 cores"),
    ],
)
def test_rate_of_a_worker_is_that_of_its_slowest_part(
    processes: int, cores: int, rate: float, limited_by: str | None
) -> None:
    found = limit_rate(900.0, processes, cores)
    assert found.rate == pytest.approx(rate)
    assert found.limited_by == limited_by


def test_rate_is_that_of_the_latest_long_enough_run(engine: Engine) -> None:
    settle(engine, "long", 101, 5.0)
    settle(engine, "short", 99, 50.0)
    settle(engine, "stopped", 101, 7.0, finished=False)
    found = read_worker_rate(engine, None, 1)
    assert (found.run, found.images) == ("long", 101)
    assert found.rate == pytest.approx(5.0)
    assert read_worker_rate(engine, "stopped", 2).rate == pytest.approx(3.5)


def test_rate_must_be_given_without_a_long_enough_run(engine: Engine) -> None:
    with pytest.raises(UsageError, match="no finished run of 100 images to measure the rate of a worker: give --rate"):
        read_worker_rate(engine, None, 1)
    settle(engine, "short", 3, 1.0)
    with pytest.raises(UsageError, match="run short has 3 images with known times, a rate needs 100: give --rate"):
        read_worker_rate(engine, "short", 1)
    with pytest.raises(RunError, match="no run 'day'"):
        read_worker_rate(engine, "day", 1)


def test_command_names_its_inputs(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNDUS_DATABASE_URL", sqlite_url)
    settle(open_ledger(read_settings()), "night", 101, 2.0)
    asked = ["capacity", "--images", "90000", "--by", "06:00"]
    assert CliRunner().invoke(app, asked).stdout.splitlines() == [
        "90,000 images from 01:00 to 06:00 UTC: 5.00 images/s are needed",
        "one worker grades 2.00 images/s, as in night (101 images)",
        "4 workers are needed with 20 % spare capacity; earliest end at 04:07",
    ]
    document = json.loads(CliRunner().invoke(app, [*asked, "--rate", "12.5", "--from", "22:00", "--json"]).stdout)
    assert document == {
        "images": 90_000, "from": "22:00", "by": "06:00", "images_per_s_needed": 3.125,
        "images_per_s_of_a_worker": 12.5, "measured_in": None, "limited_by": None, "spare": 0.2, "workers": 1,
        "done_at": "00:00",
    }  # fmt: skip


def test_command_names_what_limits_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "PROCESS_MS", 5.0)
    monkeypatch.setattr(capacity, "DECODE_MS", 20.0)
    asked = ["capacity", "--images", "500000", "--by", "06:00", "--rate", "900", "--cores", "16", "--processes", "2"]
    assert CliRunner().invoke(app, asked).stdout.splitlines()[1] == (
        "one worker grades 400.00 images/s, all that 2 worker processes can feed to a device"
    )
    assert CliRunner().invoke(app, [*asked[:-1], "4"]).stdout.splitlines()[1] == (
        "one worker grades 640.00 images/s, all that 16 cores can feed to a device"
    )
    done = CliRunner().invoke(app, ["capacity", "--images", "10", "--by", "06:00", "--cores", "4"])
    assert done.exit_code == 2
    assert "--cores needs --rate" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--by", "6am"], "--by '6am': expected a time of day in UTC as HH:MM"),
        (["--by", "24:00"], "--by '24:00': expected a time of day"),
        (["--by", "06:00", "--from", "1:00"], "--from '1:00': expected a time of day"),
        (["--by", "06:00", "--like", "night"], "--rate and --like exclude each other"),
        (["--by", "06:00", "--processes", "4"], "--processes needs --cores"),
    ],
)
def test_invalid_option_is_refused(arguments: list[str], complaint: str) -> None:
    done = CliRunner().invoke(app, ["capacity", "--images", "10", "--rate", "1", *arguments])
    assert done.exit_code == 2
    assert complaint in done.stderr
