"""Secrets do not leak and roles have minimal rights.

One run with marked secrets, in which each program uses its role; then everything that it wrote is searched.
"""

import base64
import binascii
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from redis import Redis

from tests.integration.processes import FUNDUS, fundus, wait_until_finished, worker
from tests.services.postgres import Postgres
from tests.services.postgres_roles import PASSWORD, program_roles
from tests.services.seaweedfs import SeaweedFS

SAMPLES = Path(__file__).parents[2] / "producer" / "demo" / "samples"
SECRETS = {
    "database": PASSWORD,
    "broker": "marked-broker-password",
    "storage": "test-secret-key",
    "patient key": "marked-key-of-thirty-two-characters",
    "patient": "MARKED-PATIENT-4711",
    "alarm": "marked-token-of-a-webhook",
}
EXIF = b"MARKED-CAMERA-OWNER"


@dataclass
class RecordedRun:
    """Everything that the run wrote: output, command lines, broker, ledger and overlays."""

    urls: dict[str, str]
    output: dict[str, str] = field(default_factory=dict)
    command_lines: str = ""
    broker: bytes = b""
    ledger: str = ""
    overlays: list[bytes] = field(default_factory=list)
    exported: str = ""


@pytest.fixture(scope="module")
def night(
    postgres: Postgres,
    seaweedfs: SeaweedFS,
    valkey: str,
    small_model: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RecordedRun]:
    folder = tmp_path_factory.mktemp("night")
    database, bucket = postgres.create(), seaweedfs.create()
    with (
        program_roles(postgres.url(database)) as urls,
        Redis.from_url(valkey) as broker,
        broker.pubsub() as published,
    ):
        broker.flushall()
        broker.execute_command("ACL", "SETUSER", "marked", "on", f">{SECRETS['broker']}", "~*", "&*", "+@all")
        published.psubscribe("*")
        env = small_model | {
            "FUNDUS_BROKER_URL": f"redis://marked:{SECRETS['broker']}@127.0.0.1:{urlsplit(valkey).port}/0",
            "FUNDUS_STORAGE_URL": bucket.storage_url,
            "FUNDUS_S3_ENDPOINT_URL": bucket.endpoint_url,
            "FUNDUS_PATIENT_KEY": SECRETS["patient key"],
            "FUNDUS_LOG_LEVEL": "debug",
            "AWS_ACCESS_KEY_ID": bucket.access_key,
            "AWS_SECRET_ACCESS_KEY": bucket.secret_key,
        }
        night = RecordedRun(urls)
        _run_programs(night, env, folder)
        night.broker = _dump_broker(broker) + _read_published(published)
        broker.execute_command("ACL", "DELUSER", "marked")
        night.ledger = _dump_ledger(urls["owner"])
        listed = bucket.client.list_objects_v2(Bucket=bucket.name)["Contents"]
        night.overlays = [
            bucket.client.get_object(Bucket=bucket.name, Key=item["Key"])["Body"].read() for item in listed
        ]
        as_keeper = env | {"FUNDUS_DATABASE_URL": urls["keeper"]}
        erased = fundus("erase", "--patient", "-", "--json", env=as_keeper, given=f"{SECRETS['patient']}\n")
        night.output["erase"] = erased.stdout + erased.stderr
        yield night
    postgres.drop(database)


def _run_programs(night: RecordedRun, env: dict[str, str], folder: Path) -> None:
    """Run all programs, each with its role, and record their output."""
    manifest = _make_manifest(folder / "pictures")

    def run(role: str, *arguments: str, fails: bool = False, **changes: str) -> None:
        own = env | {"FUNDUS_DATABASE_URL": night.urls[role]} | changes
        done = fundus(*arguments, env=own, check=not fails)
        assert (done.returncode != 0) == fails, (arguments, done.stdout, done.stderr)
        night.output[f"{len(night.output)} {' '.join(arguments)}"] = done.stdout + done.stderr

    dead_broker = f"redis://marked:{SECRETS['broker']}@127.0.0.1:1/0"
    dead_database = f"postgresql://marked:{SECRETS['database']}@127.0.0.1:1/none"
    run("producer", "enqueue", str(manifest), "--run", "night", "--json")
    run("producer", "nightly", str(manifest), "--programme", "north")
    log = folder / "worker.log"
    as_worker = env | {"FUNDUS_DATABASE_URL": night.urls["worker"]}
    with worker(as_worker, log):
        wait_until_finished("night", env | {"FUNDUS_DATABASE_URL": night.urls["reader"]})
        (north,) = _execute(night, "SELECT name FROM runs WHERE kind = 'nightly'")
        wait_until_finished(north, env | {"FUNDUS_DATABASE_URL": night.urls["reader"]})
        night.command_lines = _command_lines()
        for question in ("stats", "conf"):
            asked = [FUNDUS.with_name("celery"), "-A", "worker.app", "inspect", question, "--timeout", "1"]
            done = subprocess.run(asked, env={**os.environ, **as_worker}, capture_output=True, text=True, check=True)
            night.output[f"inspect {question}"] = done.stdout + done.stderr
    night.output["worker"] = log.read_text()
    run("reader", "status", "night", "--json")
    run("reader", "export", "night", "--out", str(folder / "night.csv"))
    night.exported = str(folder / "night.csv")
    night.output["export"] = (folder / "night.csv").read_text()
    run("producer", "resend", "night", "--failed")
    run("producer", "cancel", "night")
    alarm = f"json://127.0.0.1:1/{SECRETS['alarm']}"
    run("keeper", "close-nights", fails=True, FUNDUS_REPORTS_DIR=str(folder / "reports"), FUNDUS_ALARM_URLS=alarm)
    assert (folder / "reports" / north / "index.html").is_file()
    _execute(
        night,
        "UPDATE gradings SET settled_at = settled_at - interval '3 days' WHERE overlay_key LIKE 'north%' RETURNING 1",
    )
    ages = {"FUNDUS_RETAIN_ROWS_DAYS": "2", "FUNDUS_REPORTS_DIR": str(folder / "reports")}
    run("producer", "hold", north)
    run("keeper", "retention", "--json", **ages)
    run("producer", "hold", north, "--release")
    run("keeper", "retention", "--json", **ages)
    run("reader", "audit", "--json")
    run("reader", "db", "current", "--json")
    run(
        "producer",
        "nightly",
        str(manifest.parent),
        fails=True,
        FUNDUS_BROKER_URL=dead_broker,
        FUNDUS_ALARM_URLS=alarm,
    )
    run("producer", "doctor", fails=True, FUNDUS_BROKER_URL=dead_broker, FUNDUS_MODEL="none")
    run("producer", "--debug", "status", fails=True, FUNDUS_DATABASE_URL=dead_database)
    run("producer", "--debug", "status", fails=True, FUNDUS_DATABASE_URL=SECRETS["database"])
    run("reader", "--debug", "enqueue", str(manifest), "--run", "other", fails=True)
    run("worker", "worker", fails=True, FUNDUS_DATABASE_URL=dead_database)


def _execute(night: RecordedRun, statement: str) -> list[Any]:
    """Execute a statement as the owner; return the first column."""
    with closing(psycopg.connect(night.urls["owner"], autocommit=True)) as connection:
        return [row[0] for row in connection.execute(statement.encode())]


def _make_manifest(folder: Path) -> Path:
    """Write a manifest of one patient with a photograph with EXIF and a file that is no photograph."""
    folder.mkdir()
    jpeg = (SAMPLES / "IDRiD_138.jpg").read_bytes()
    (folder / "eye.jpg").write_bytes(with_exif(jpeg))
    (folder / "note.jpg").write_text("no picture")
    manifest = folder / "manifest.csv"
    manifest.write_text(f"uri,patient_id\neye.jpg,{SECRETS['patient']}\nnote.jpg,{SECRETS['patient']}\n")
    return manifest


def with_exif(jpeg: bytes) -> bytes:
    """Insert an EXIF segment with the ASCII tag Artist and a GPS directory with GPSDateStamp."""
    count = len(EXIF) + 1
    artist_at, gps_at = 38, 38 + count + count % 2
    directory = (
        b"II*\0\x08\0\0\0\x02\0"
        + b"\x3b\x01\x02\0" + count.to_bytes(4, "little") + artist_at.to_bytes(4, "little")
        + b"\x25\x88\x04\0\x01\0\0\0" + gps_at.to_bytes(4, "little")
        + bytes(4)
    )  # fmt: skip
    gps = b"\x01\0\x1d\0\x02\0" + count.to_bytes(4, "little") + artist_at.to_bytes(4, "little") + bytes(4)
    tiff = (directory + EXIF + b"\0").ljust(gps_at, b"\0") + gps
    body = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + jpeg[2:]


def _command_lines() -> str:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # the process has ended
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    assert any("sandbox.decoder_program" in line for line in lines)
    return "\n".join(line for line in lines if str(sys.executable) in line or "fundus" in line or "valkey" in line)


def _dump_broker(broker: "Redis") -> bytes:
    """Return everything written to the broker since its start, from its append-only files."""
    folder = Path(broker.config_get("dir")["dir"]) / "appendonlydir"
    written = b"".join(path.read_bytes() for path in folder.iterdir())
    assert b"fundus.grade_chunk" in written
    assert b"image_ids" in _decode_bodies(written)
    return _decode_bodies(written)


def _read_published(published: Any) -> bytes:
    messages = []
    while (message := published.get_message(timeout=0.2)) is not None:
        messages.append(str(message["data"]).encode())
    decoded = _decode_bodies(b"\n".join(messages))
    assert b"task-succeeded" in decoded
    return decoded


def _decode_bodies(messages: bytes) -> bytes:
    """Return the messages followed by their decoded base64 bodies. Other tests leave hostile messages."""
    decoded = [messages]
    for body in re.findall(rb'"body": "([A-Za-z0-9+/=]+)"', messages):
        with suppress(binascii.Error):
            decoded.append(base64.b64decode(body))
    return b"\n".join(decoded)


def _dump_ledger(url: str) -> str:
    with closing(psycopg.connect(url)) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        rows = [connection.execute(f"SELECT t::text FROM {table} t".encode()).fetchall() for (table,) in tables]
    return "\n".join(text for table in rows for (text,) in table)


@pytest.mark.parametrize("secret", SECRETS)
def test_secret_is_in_no_output_and_no_store(night: RecordedRun, secret: str) -> None:
    marked = SECRETS[secret]
    assert [name for name, text in night.output.items() if marked in text] == []
    assert marked not in night.command_lines
    assert marked.encode() not in night.broker
    assert marked not in night.ledger


def test_exif_reaches_no_overlay(night: RecordedRun) -> None:
    assert len(night.overlays) == 1
    markers, overlay, at = [], night.overlays[0], 2
    while not markers or markers[-1] != 0xDA:  # start of scan
        markers.append(overlay[at + 1])
        at += 2 + int.from_bytes(overlay[at + 2 : at + 4], "big")
    # JFIF, tables and frame; EXIF would be 0xE1 and a comment 0xFE.
    assert set(markers) == {0xE0, 0xDB, 0xC0, 0xC4, 0xDA}
    assert EXIF not in overlay
    assert EXIF.decode() not in night.ledger


def test_roles_suffice_for_all_programs(night: RecordedRun) -> None:
    assert '"graded": 1' in next(text for name, text in night.output.items() if " status night" in name)
    logged = next(text for name, text in night.output.items() if " audit" in name)
    actions = ("enqueue", "nightly", "seal", "register_model", "export", "resend", "cancel", "hold", "release")
    for action in (*actions, "retire_overlays", "delete_rows"):
        assert f'"action": "{action}"' in logged
    held, released = (text for name, text in night.output.items() if " retention" in name)
    assert '"overlays": 0' in held
    assert '"overlays": 1, "rows": 1' in released
    assert "error[alarm_undelivered]" in next(text for name, text in night.output.items() if " close-nights" in name)


def test_keeper_erases_a_patient_by_the_keyed_id(night: RecordedRun) -> None:
    erased = json.loads(night.output["erase"].splitlines()[0])
    assert (erased["images"], erased["overlays"], erased["exports"]) == (2, 1, [night.exported])
    assert _execute(night, "SELECT image_id FROM images UNION ALL SELECT image_id FROM gradings") == []


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("worker", "DROP TABLE gradings"),
        ("worker", "ALTER TABLE gradings ADD COLUMN x int"),
        ("worker", "CREATE TABLE mine (x int)"),
        ("worker", "TRUNCATE gradings"),
        ("worker", "DELETE FROM gradings"),
        ("worker", "DELETE FROM images"),
        ("worker", "DELETE FROM locks"),
        ("worker", "SELECT patient_id FROM images"),
        ("worker", "SELECT reference_grade FROM images"),
        ("worker", "SELECT * FROM images"),
        ("worker", "SELECT * FROM audit"),
        ("worker", "UPDATE images SET uri = 'file:///etc/passwd'"),
        ("worker", "INSERT INTO images (image_id, uri, eye, registered_at) VALUES ('x', 'file:///x', 'left', now())"),
        ("worker", "INSERT INTO gradings (run_id, image_id, position, due_at) VALUES (1, 'x', 1, 0)"),
        ("worker", "UPDATE models SET document = '{}'"),
        ("worker", "UPDATE alembic_version SET version_num = '0001'"),
        ("worker", "UPDATE audit SET actor = 'x'"),
        ("producer", "DROP TABLE runs"),
        ("producer", "DELETE FROM runs"),
        ("producer", "DELETE FROM gradings"),
        ("producer", "DELETE FROM images"),
        ("worker", "UPDATE runs SET held = true"),
        ("worker", "UPDATE nights SET verdict = 'stable'"),
        ("worker", "UPDATE gradings SET retired_key = 'x'"),
        ("keeper", "UPDATE runs SET held = false"),
        ("keeper", "DELETE FROM runs"),
        ("keeper", "DELETE FROM nights"),
        ("keeper", "DELETE FROM audit"),
        ("keeper", "SELECT * FROM audit"),
        ("keeper", "UPDATE gradings SET grade = 0"),
        ("keeper", "UPDATE decisions SET grade = 0"),
        ("keeper", "DELETE FROM decisions"),
        ("keeper", "INSERT INTO nights (run_id, programme, night) VALUES (1, 'x', now())"),
        ("producer", "INSERT INTO models VALUES ('x', 'x', '{}', now())"),
        ("producer", "SELECT * FROM audit"),
        ("producer", "DELETE FROM audit"),
        ("reader", "UPDATE gradings SET grade = 0"),
        ("reader", "INSERT INTO runs (name) VALUES ('x')"),
        ("reader", "DELETE FROM audit"),
        ("reader", "COPY images TO PROGRAM 'cat'"),
        ("reader", "SELECT * FROM users"),
        ("reader", "SELECT * FROM sessions"),
        ("reader", "INSERT INTO decisions (run_id) VALUES (1)"),
        ("worker", "SELECT * FROM decisions"),
        ("producer", "SELECT * FROM users"),
        ("worker", "SELECT * FROM outbox"),
        ("producer", "UPDATE outbox SET state = 'published'"),
        ("publisher", "SELECT patient_id FROM images"),
        ("publisher", "UPDATE gradings SET grade = 0"),
        ("publisher", "DELETE FROM outbox"),
        ("console", "UPDATE gradings SET grade = 0"),
        ("console", "UPDATE runs SET state = 'cancelled'"),
        ("console", "UPDATE images SET uri = 'file:///etc/passwd'"),
        ("console", "UPDATE decisions SET grade = 0"),
        ("console", "DELETE FROM decisions"),
        ("console", "DELETE FROM reviews"),
        ("console", "DELETE FROM withdrawals"),
        ("console", "DELETE FROM reader_images"),
        ("console", "INSERT INTO users VALUES ('x', 'grader', 'x', now(), NULL)"),
        ("console", "UPDATE users SET role = 'operator'"),
        ("console", "SELECT * FROM audit"),
        ("console", "SELECT * FROM photograph_views"),
        ("console", "DELETE FROM photograph_views"),
        ("keeper", "UPDATE photograph_views SET viewer = 'x'"),
    ],
)
def test_role_has_no_unneeded_rights(night: RecordedRun, role: str, statement: str) -> None:
    with closing(psycopg.connect(night.urls[role])) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement.encode())


def test_owner_cannot_rewrite_the_audit_log(night: RecordedRun) -> None:
    for statement in (b"UPDATE audit SET actor = 'x'", b"DELETE FROM audit", b"TRUNCATE audit"):
        with (
            closing(psycopg.connect(night.urls["owner"])) as connection,
            pytest.raises(psycopg.Error, match="append-only"),
        ):
            connection.execute(statement)
