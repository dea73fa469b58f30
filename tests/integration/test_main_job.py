"""End to end with real processes: enqueue a folder, grade it, find overlays in the store and grades in SQL.

Results are read with plain SQL and plain file or S3 reads, not through the project.
"""

import csv
import hashlib
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import amqp
import boto3
import cv2
import numpy as np
import psycopg
import pytest

from tests.faults.bundles import SMALL_PX
from tests.integration.processes import FUNDUS, fundus, fundus_json, wait_until_finished, worker
from tests.services.rabbitmq import RabbitMQ
from tests.services.seaweedfs import Bucket
from worker.core.uris import parse_file_uri
from worker.model.bundle.bundle import DEFAULT_BUNDLE
from worker.model.bundle.ensemble import load_model

SAMPLES = Path(__file__).parents[2] / "producer" / "demo" / "samples"
GRADABLE = sorted(path.name for path in SAMPLES.glob("IDRiD_*.jpg"))
INPUT_SIZE_PX = load_model(DEFAULT_BUNDLE).recipe.input_size_px
QUICK = {"FUNDUS_RESEND_AFTER_S": "5", "FUNDUS_RECONCILE_EVERY_S": "1", "FUNDUS_MAX_WAIT_MS": "5"}


class Services:
    """Services of one test: settings to reach them, and direct reads of ledger and store."""

    def __init__(self, env: dict[str, str], rows: Any, read_object: Any, keys: Any) -> None:
        self.env = env | QUICK
        self.rows = rows
        self.read_object = read_object
        self.keys = keys


@pytest.fixture(params=["broker_url", pytest.param("rabbitmq_url", marks=pytest.mark.slow)], ids=["valkey", "rabbitmq"])
def any_broker_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def sqlite_and_folder(tmp_path: Path, any_broker_url: str) -> Services:
    return on_sqlite_and_folder(tmp_path, any_broker_url)


def on_sqlite_and_folder(tmp_path: Path, broker_url: str) -> Services:
    ledger, store = tmp_path / "ledger.db", tmp_path / "store"

    def rows(query: str) -> list[tuple[Any, ...]]:
        with sqlite3.connect(ledger) as connection:
            return connection.execute(query).fetchall()

    return Services(
        {
            "FUNDUS_DATABASE_URL": f"sqlite:///{ledger}",
            "FUNDUS_BROKER_URL": broker_url,
            "FUNDUS_STORAGE_URL": store.as_uri(),
        },
        rows,
        lambda key: (store / key).read_bytes(),
        lambda: sorted(str(path.relative_to(store)) for path in store.rglob("*") if path.is_file()),
    )


@pytest.fixture
def postgres_and_s3(postgres_url: str, any_broker_url: str, bucket: Bucket) -> Iterator[Services]:
    client = boto3.client("s3", endpoint_url=bucket.endpoint_url, region_name="us-east-1")

    def rows(query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(postgres_url.replace("+psycopg", "")) as connection:
            return connection.execute(query).fetchall()

    yield Services(
        {
            "FUNDUS_DATABASE_URL": postgres_url,
            "FUNDUS_BROKER_URL": any_broker_url,
            "FUNDUS_STORAGE_URL": bucket.storage_url,
            "FUNDUS_S3_ENDPOINT_URL": bucket.endpoint_url,
        },
        rows,
        lambda key: client.get_object(Bucket=bucket.name, Key=f"overlays/{key}")["Body"].read(),
        lambda: sorted(
            item["Key"].removeprefix("overlays/")
            for item in client.list_objects_v2(Bucket=bucket.name, Prefix="overlays/").get("Contents", [])
        ),
    )
    client.close()


@pytest.fixture
def unusual_files(tmp_path: Path) -> Path:
    """Ten files: two ordinary photographs, unusual formats, and damaged or wrong files."""
    folder = tmp_path / "unusual"
    folder.mkdir()
    for name in GRADABLE[:2]:
        shutil.copy(SAMPLES / name, folder)
    good = cv2.imread(str(SAMPLES / GRADABLE[2]))
    cv2.imwrite(str(folder / "alpha.png"), np.dstack([good, np.full(good.shape[:2], 255, np.uint8)]))
    cv2.imwrite(str(folder / "sixteen-bit.png"), good.astype(np.uint16) * 257)
    cv2.imwrite(str(folder / "grey.jpg"), good[..., 1])
    (folder / "truncated.jpg").write_bytes((SAMPLES / GRADABLE[3]).read_bytes()[:20_000])
    (folder / "text.jpg").write_text("Visit note, no picture.")
    (folder / "missing.jpg").write_bytes((SAMPLES / GRADABLE[4]).read_bytes())
    cv2.imwrite(str(folder / "black.png"), np.zeros((600, 600, 3), np.uint8))
    header = bytes.fromhex("89504e470d0a1a0a0000000d494844520000753000007530080200000000000000")
    (folder / "bomb.png").write_bytes(header)
    return folder


def hash_of_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_ledger_and_store_agree(services: Services) -> None:
    """Assert that every row is settled without a lease, and that overlays and graded rows match."""
    rows = services.rows("SELECT status, lease_token, overlay_key FROM gradings")
    assert [r for r in rows if r[0] == "queued" or r[1] is not None] == []
    keys = sorted(key for status, _, key in rows if status == "graded")
    prefixes = tuple(prefix for (prefix,) in services.rows("SELECT prefix FROM reports WHERE prefix IS NOT NULL"))
    assert [key for key in sorted(services.keys()) if not key.startswith(prefixes)] == keys
    for key in keys:
        overlay = cv2.imdecode(np.frombuffer(services.read_object(key), np.uint8), cv2.IMREAD_COLOR)
        assert overlay.shape == (512, 512, 3)


def check_report_is_written(services: Services, run: str) -> None:
    """Wait for the report that the worker writes to the store after the run is finished."""
    deadline = time.monotonic() + 60
    while not (rows := services.rows("SELECT prefix FROM reports WHERE written_at IS NOT NULL")):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert rows == [(f"{run}/report/",)]
    files = sorted(key.removeprefix(rows[0][0]) for key in list(services.keys()) if key.startswith(rows[0][0]))
    assert files == ["index.html", "results.csv", "results.parquet", "summary.json"]
    assert services.read_object(f"{run}/report/index.html").count(b'"pictures":{') == 12


def test_samples_are_graded_on_sqlite_and_a_folder(broker_url: str, tmp_path: Path) -> None:
    grade_samples(on_sqlite_and_folder(tmp_path, broker_url), tmp_path)


def test_samples_are_graded_through_rabbitmq(
    rabbitmq: RabbitMQ, rabbitmq_url: str, small_model: dict[str, str], tmp_path: Path
) -> None:
    services = on_sqlite_and_folder(tmp_path, rabbitmq_url)
    services.env |= small_model
    grade_samples(services, tmp_path, input_size_px=SMALL_PX)
    with closing(rabbitmq.connect()) as connection, closing(connection.channel()) as channel:
        assert channel.queue_declare("bulk", passive=True).message_count == 0
        with pytest.raises(amqp.NotFound):
            channel.queue_declare("celery_delayed_0", passive=True)


def test_samples_are_graded_on_postgresql_and_s3(postgres_and_s3: Services, tmp_path: Path) -> None:
    grade_samples(postgres_and_s3, tmp_path)


def grade_samples(services: Services, tmp_path: Path, *, input_size_px: int = INPUT_SIZE_PX) -> None:
    fundus("db", "upgrade", env=services.env)
    counts = fundus_json("enqueue", str(SAMPLES / "manifest.csv"), "--run", "samples", env=services.env)
    assert counts["found"] == 13
    with worker(services.env, tmp_path / "worker.log"):
        wait_until_finished("samples", services.env)
        status = fundus_json("status", "samples", env=services.env)
        check_report_is_written(services, "samples")
    assert (status["total"], status["graded"], status["ungradable"], status["failed"]) == (13, 11, 1, 1)
    check_ledger_and_store_agree(services)
    assert services.rows("SELECT image_id, status, error_code FROM gradings WHERE status <> 'graded' ORDER BY 1") == [
        ("black-frame", "ungradable", "no_field"),
        ("not-an-image", "failed", "image_format"),
    ]
    # Also of those that were fetched but not graded: a reader reviews ungradable photographs, too.
    hashes = services.rows("SELECT uri, content_sha256 FROM gradings JOIN images USING (image_id)")
    assert dict(hashes) == {uri: hash_of_file(Path(parse_file_uri(uri))) for uri, _ in hashes}
    saliency = services.rows("SELECT saliency FROM gradings WHERE status = 'graded'")[0][0]
    assert len(saliency) == (input_size_px // 32) ** 2 * 2

    again = fundus_json("enqueue", str(SAMPLES / "manifest.csv"), "--run", "samples", env=services.env)
    assert again["new"] == 0
    exported = tmp_path / "samples.csv"
    fundus("export", "samples", "--format", "csv", "--out", str(exported), env=services.env)
    with exported.open(newline="") as file:
        rows = {row["image_id"]: row for row in csv.DictReader(file)}
    assert len(rows) == 13
    assert rows["IDRiD_138"]["reference_grade"] == "0"
    assert rows["not-an-image"]["error_code"] == "image_format"


def test_unusual_files_get_clear_codes_and_do_not_affect_others(
    sqlite_and_folder: Services, unusual_files: Path, tmp_path: Path
) -> None:
    services = sqlite_and_folder
    fundus("db", "upgrade", env=services.env)
    assert fundus_json("enqueue", str(unusual_files), "--run", "unusual", env=services.env)["found"] == 10
    (unusual_files / "missing.jpg").unlink()
    # The plain Celery command must work like `fundus worker`.
    celery = str(FUNDUS.with_name("celery"))
    with worker(services.env, tmp_path / "worker.log", celery, "-A", "worker.app", "worker"):
        wait_until_finished("unusual", services.env)
    rows = services.rows("SELECT i.uri, g.status, g.error_code FROM gradings g JOIN images i USING (image_id)")
    found = {Path(uri).name: (status, code) for uri, status, code in rows}
    assert found == {
        GRADABLE[0]: ("graded", None),
        GRADABLE[1]: ("graded", None),
        "alpha.png": ("graded", None),
        "sixteen-bit.png": ("graded", None),
        "grey.jpg": ("ungradable", "not_a_fundus"),
        "truncated.jpg": ("failed", "image_damaged"),
        "text.jpg": ("failed", "image_format"),
        "missing.jpg": ("failed", "image_missing"),
        "black.png": ("ungradable", "no_field"),
        "bomb.png": ("failed", "image_too_large"),
    }
    check_ledger_and_store_agree(services)


def test_stack_of_preprocessed_images_is_graded_unchanged(
    sqlite_and_folder: Services, small_model: dict[str, str], tmp_path: Path
) -> None:
    """The format of the original notebook: an array of float RGB in [0, 1] and a CSV of diagnoses."""
    services = sqlite_and_folder
    services.env |= small_model
    pictures = [cv2.cvtColor(cv2.imread(str(SAMPLES / name)), cv2.COLOR_BGR2RGB) for name in GRADABLE[:3]]
    square = (SMALL_PX, SMALL_PX)
    array = np.stack([cv2.resize(picture, square, interpolation=cv2.INTER_AREA) for picture in pictures])
    np.save(tmp_path / "images.npy", array.astype(np.float32) / 255)
    (tmp_path / "labels.csv").write_text("id_code,diagnosis\na,0\nb,1\nc,2\n")
    fundus("db", "upgrade", env=services.env)
    source = str(tmp_path / "images.npy")
    labels = str(tmp_path / "labels.csv")
    assert fundus_json("enqueue", source, "--labels", labels, "--run", "stack", env=services.env)["found"] == 3
    with worker(services.env, tmp_path / "worker.log"):
        wait_until_finished("stack", services.env)
    rows = services.rows(
        "SELECT i.uri, g.status, i.reference_grade FROM gradings g JOIN images i USING (image_id) ORDER BY position"
    )
    base = (tmp_path / "images.npy").as_uri()
    assert rows == [(f"{base}#{i}", "graded", i) for i in range(3)]
    entries = np.load(tmp_path / "images.npy")
    assert services.rows("SELECT content_sha256 FROM gradings ORDER BY position") == [
        (hashlib.sha256(entry.tobytes()).hexdigest(),) for entry in entries
    ]
    check_ledger_and_store_agree(services)


def test_worker_killed_in_the_middle_loses_nothing(
    postgres_and_s3: Services, small_model: dict[str, str], tmp_path: Path
) -> None:
    services = postgres_and_s3
    services.env |= small_model | {"FUNDUS_LEASE_S": "5", "FUNDUS_CHUNK_SIZE": "4"}
    fundus("db", "upgrade", env=services.env)
    fundus("enqueue", str(SAMPLES / "manifest.csv"), "--run", "crash", env=services.env)
    with worker(services.env, tmp_path / "first.log", exits_with=-signal.SIGKILL) as process:
        while not services.rows("SELECT 1 FROM gradings WHERE lease_token IS NOT NULL"):
            assert process.poll() is None
        process.kill()
    assert services.rows("SELECT 1 FROM gradings WHERE status = 'queued'")
    with worker(services.env, tmp_path / "second.log"):
        status = wait_until_finished("crash", services.env)
    assert (status["total"], status["graded"], status["quarantined"]) == (13, 11, 0)
    check_ledger_and_store_agree(services)
