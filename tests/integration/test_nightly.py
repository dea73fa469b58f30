"""Beat's nightly task, as a worker runs it."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

from redis import Redis

SAMPLES = Path(__file__).parents[2] / "producer" / "samples"
NIGHT = """
import json
from worker.app import app, nightly
schedule = app.conf.beat_schedule["nightly"]
when = schedule["schedule"]
print(json.dumps([schedule["task"], sorted(when.hour), sorted(when.minute), schedule["options"], nightly.run()]))
"""


def night(env: dict[str, str]) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", NIGHT], env={**os.environ, **env}, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_beat_enqueues_each_photograph_on_one_night_only(tmp_path: Path, sqlite_url: str, broker_url: str) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    shutil.copy(SAMPLES / "IDRiD_020.jpg", inbox)
    env = {
        "FUNDUS_DATABASE_URL": sqlite_url,
        "FUNDUS_BROKER_URL": broker_url,
        "FUNDUS_NIGHTLY_SOURCE": str(inbox),
        "FUNDUS_NIGHTLY_AT": "02:30",
    }
    task, hour, minute, options, first = night(env)
    assert (task, hour, minute, options) == ("fundus.nightly", [2], [30], {"queue": "bulk"})
    assert (first["found"], first["new"]) == (1, 1)
    assert first["run"].startswith("nightly-2")

    shutil.copy(SAMPLES / "IDRiD_047.jpg", inbox)
    second = night(env)[-1]
    assert (second["found"], second["new"]) == (2, 1)
    with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as connection:
        assert connection.execute("SELECT count(*), count(DISTINCT image_id) FROM gradings").fetchone() == (2, 2)
    assert Redis.from_url(broker_url).llen("bulk") == 2


def test_without_a_nightly_source_beat_has_nothing_to_do(broker_url: str) -> None:
    code = "from worker.app import app; print(app.conf.beat_schedule)"
    env = {**os.environ, "FUNDUS_BROKER_URL": broker_url}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{}"
