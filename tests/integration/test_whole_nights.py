"""Two nights with a real worker on PostgreSQL and S3, their closing, and retention of the first."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine

from producer.runs.nightly import NightRequest, NightResult, enqueue_night
from tests.integration.processes import FUNDUS, fundus, fundus_json, wait_until_finished, worker
from tests.services.seaweedfs import Bucket
from worker.core.messaging.broker import make_celery
from worker.core.settings import Settings
from worker.ledger.database import connect

SAMPLES = Path(__file__).parents[2] / "producer" / "demo" / "samples"
pytestmark = pytest.mark.slow


@pytest.fixture
def env(postgres_url: str, broker_url: str, bucket: Bucket, tmp_path: Path) -> dict[str, str]:
    return {
        "FUNDUS_DATABASE_URL": postgres_url,
        "FUNDUS_BROKER_URL": broker_url,
        "FUNDUS_REPORTS_DIR": str(tmp_path / "reports"),
        "FUNDUS_DECODE_PROCESSES": "1",
        "FUNDUS_LEASE_S": "3",
    }


@pytest.fixture
def night(env: dict[str, str], bucket: Bucket, make_settings: Callable[..., Settings]) -> Callable[[int], NightResult]:
    settings = make_settings(
        database_url=env["FUNDUS_DATABASE_URL"],
        broker_url=env["FUNDUS_BROKER_URL"],
        s3_endpoint_url=bucket.endpoint_url,
    )
    engine: Engine = connect(settings)

    def fill(day: int) -> NightResult:
        request = NightRequest(f"s3://{bucket.name}/inbox/", date(2026, 11, day))
        return enqueue_night(engine, make_celery(settings), settings, request, on_warning=print)

    return fill


def ask(env: dict[str, str], query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(env["FUNDUS_DATABASE_URL"].replace("+psycopg", ""), autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


def stored(bucket: Bucket) -> list[str]:
    """Return the keys of overlays and reports."""
    listed = bucket.client.list_objects_v2(Bucket=bucket.name, Prefix="overlays/").get("Contents", [])
    return sorted(item["Key"].removeprefix("overlays/") for item in listed)


def test_replaced_photograph_is_graded_again_and_the_old_outcome_expires(
    env: dict[str, str], bucket: Bucket, night: Callable[[int], NightResult], tmp_path: Path
) -> None:
    def put(name: str, sample: str) -> None:
        data = (SAMPLES / f"{sample}.jpg").read_bytes()
        bucket.client.put_object(Bucket=bucket.name, Key=f"inbox/{name}.jpg", Body=data)

    put("replaced", "IDRiD_138")
    put("kept", "IDRiD_020")
    with worker(env, tmp_path / "worker.log"):
        assert night(1).new == 2
        wait_until_finished("nightly-2026-11-01", env)
        first = fundus_json("close-nights", env=env)
        put("replaced", "IDRiD_055")
        assert night(2).new == 1
        wait_until_finished("nightly-2026-11-02", env)
        second = fundus_json("close-nights", env=env)
    assert (first["run"], first["by_status"]["graded"], first["verdict"]) == ("nightly-2026-11-01", 2, None)
    assert (second["run"], second["by_status"]["graded"], second["verdict"]) == ("nightly-2026-11-02", 1, "stable")
    assert (tmp_path / "reports" / "nightly-2026-11-02" / "index.html").is_file()
    outcomes = ask(
        env,
        "SELECT r.name, i.uri, g.saliency FROM gradings g JOIN runs r USING (run_id) JOIN images i USING (image_id)",
    )
    replaced = {name: saliency for name, uri, saliency in outcomes if uri.endswith("replaced.jpg")}
    assert set(replaced) == {"nightly-2026-11-01", "nightly-2026-11-02"}
    assert len(set(replaced.values())) == 2, "the second night graded the old photograph"
    assert len([key for key in stored(bucket) if "/report/" not in key]) == 3

    ask(
        env,
        "UPDATE gradings SET settled_at = settled_at - interval '40 days'"
        " WHERE run_id = (SELECT run_id FROM runs WHERE name = 'nightly-2026-11-01') RETURNING 1",
    )
    env |= {"FUNDUS_RETAIN_ROWS_DAYS": "30"}
    assert fundus_json("retention", "--dry-run", env=env)["overlays"] == 2
    deleted = fundus_json("retention", env=env)
    assert (deleted["overlays"], deleted["rows"], deleted["images"]) == (2, 2, 1)
    assert {key.partition("/")[0] for key in stored(bucket)} == {"nightly-2026-11-02"}
    assert [path.name for path in (tmp_path / "reports").iterdir()] == ["nightly-2026-11-02"]
    assert night(3).new == 0, "an image deleted by retention counts as new"


def test_retention_killed_five_times_completes(env: dict[str, str], bucket: Bucket) -> None:
    """Retention of 1,000 graded rows is killed five times; no row or object is left inconsistent."""
    images = 1000
    ask(env, "INSERT INTO models VALUES ('m', 'm', '{}', now()) RETURNING 1")
    ask(
        env,
        "INSERT INTO runs (run_id, name, kind, state, queue, source, chunk_size, created_at, finished_at)"
        " VALUES (1, 'old', 'manual', 'finished', 'bulk', 'x', 8, now(), now()) RETURNING 1",
    )
    ask(
        env,
        "INSERT INTO images (image_id, uri, eye, registered_at)"
        f" SELECT 'i' || n, 'file:///' || n, 'left', now() FROM generate_series(1, {images}) n RETURNING 1",
    )
    ask(
        env,
        "INSERT INTO gradings (run_id, image_id, position, due_at, status, grade, p_ge4, referable, saliency, model_id,"
        " overlay_key, settled_at)"
        " SELECT 1, 'i' || n, n, 0, 'graded', 2, 0.5, true, 'x', 'm', 'old/m/i' || n || '.png',"
        f" now() - interval '40 days' FROM generate_series(1, {images}) n RETURNING 1",
    )
    for number in range(1, images + 1):
        bucket.client.put_object(Bucket=bucket.name, Key=f"overlays/old/m/i{number}.png", Body=b"overlay")
    env |= {"FUNDUS_RETAIN_ROWS_DAYS": "30", "FUNDUS_LEASE_S": "1"}
    seen = []
    for _ in range(5):
        before = len(ask(env, "SELECT 1 FROM gradings WHERE overlay_key IS NOT NULL OR retired_key IS NOT NULL"))
        process = subprocess.Popen([FUNDUS, "retention"], env={**os.environ, **env}, start_new_session=True)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if (
                len(ask(env, "SELECT 1 FROM gradings WHERE overlay_key IS NOT NULL OR retired_key IS NOT NULL"))
                != before
            ):
                break
            time.sleep(0.02)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        claimed, known = (
            {key for (key,) in ask(env, f"SELECT {column} FROM gradings WHERE {column} IS NOT NULL")}
            for column in ("overlay_key", "retired_key")
        )
        stored_keys = set(all_keys(bucket))
        assert claimed <= stored_keys, "a row names a deleted overlay"
        assert stored_keys <= claimed | known, "an object belongs to no row"
        seen.append(len(stored_keys))
        time.sleep(1.2)  # until its lock expires
    last = fundus("retention", "--json", env=env)
    assert last.returncode == 0
    assert all_keys(bucket) == []
    assert ask(env, "SELECT 1 FROM gradings UNION ALL SELECT 1 FROM images") == []
    assert seen == sorted(seen, reverse=True)
    logged = ask(
        env, "SELECT action, sum((details->>'images')::int), sum((details->>'outcomes')::int) FROM audit GROUP BY 1"
    )
    assert {action: (int(i), None if o is None else int(o)) for action, i, o in logged} == {
        "retire_overlays": (images, None),
        "delete_rows": (images, images),
    }


def all_keys(bucket: Bucket) -> list[str]:
    pages = bucket.client.get_paginator("list_objects_v2").paginate(Bucket=bucket.name, Prefix="overlays/")
    return [item["Key"].removeprefix("overlays/") for page in pages for item in page.get("Contents", [])]
