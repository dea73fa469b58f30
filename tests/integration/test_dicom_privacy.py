"""What a DICOM header says of a person stays in it: a run with marked values, and a search of all that it wrote.

Places: output of commands and of workers at the level debug, messages that wait on the broker, the broker afterwards,
ledger, traces, metrics, overlays, panels, reports, exports as CSV and FHIR; also after refused, damaged and crashed
images.
"""

import sqlite3
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest
from pydicom import Dataset
from pydicom.datadict import DicomDictionary
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit
from redis import Redis

from tests.integration.processes import fundus, wait_for, wait_until_finished, worker
from tests.integration.test_secrets_and_roles import _dump_broker
from tests.services.collector import collector
from tests.services.dicom_files import make_header, write_dicom
from tests.services.ports import reserve_port
from worker.core.dicom.instance_header import HEADER_TAGS

pytestmark = pytest.mark.timeout(600)
SAMPLES = Path(__file__).parents[2] / "producer" / "demo" / "samples"
STUB = Path(__file__).with_name("stub_worker.py")
MARK = "ZZMARK"
BIRTH_DATE, PLACE = "19230417", b"ZZMARK-GPS"
ROWS = b"\x28\x00\x10\x00US\x02\x00"
MARKS = (MARK.encode(), BIRTH_DATE.encode())
TEXTS = {"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
KEPT = {*HEADER_TAGS, "00080005", "00281056", "00281199"}
"""Attributes that the program reads, and the character set."""


def make_marked(image_id: str, **changed: object) -> Dataset:
    """Return a header with a marked value in every text of the DICOM dictionary, in dates and in private attributes."""
    header = make_header(SOPInstanceUID=f"2.25.{image_id}", Rows=712, Columns=1072, SamplesPerPixel=3)
    for tag, (representation, _, _, _, keyword) in DicomDictionary.items():
        readable = 0x0008 <= tag >> 16 < 0x7000 and keyword and f"{tag:08X}" not in KEPT
        if readable and representation in TEXTS:
            setattr(header, keyword, f"{MARK}{tag:08X}")
        elif readable and representation == "DA" and keyword != "StudyDate":
            setattr(header, keyword, BIRTH_DATE)
    header.PhotometricInterpretation = "YBR_FULL_422"
    block = header.private_block(0x0009, f"{MARK} VENDOR", create=True)
    block.add_new(0x01, "LO", f"{MARK} PRIVATE")
    block.add_new(0x02, "OB", PLACE)
    for name, value in changed.items():
        setattr(header, name, value)
    comment = b"\xff\xfe" + (len(PLACE) + 2).to_bytes(2, "big") + PLACE
    exif = b"\xff\xe1" + (len(PLACE) + 8).to_bytes(2, "big") + b"Exif\0\0" + PLACE
    jpeg = (SAMPLES / "IDRiD_138.jpg").read_bytes()
    header.Rows, header.Columns = _size_of(jpeg)
    header.PixelData = encapsulate([jpeg[:2] + comment + exif + jpeg[2:]])
    return header


def _size_of(jpeg: bytes) -> tuple[int, int]:
    at = jpeg.index(b"\xff\xc0")
    return int.from_bytes(jpeg[at + 5 : at + 7], "big"), int.from_bytes(jpeg[at + 7 : at + 9], "big")


@pytest.fixture(scope="module")
def written(valkey: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Everything that two runs wrote, by place."""
    folder = tmp_path_factory.mktemp("dicom")
    source, store, ledger = folder / "source", folder / "store", folder / "ledger.db"
    source.mkdir()
    port = reserve_port()
    eye = write_dicom(make_marked("1"), JPEGBaseline8Bit)
    assert all(mark in eye for mark in (*MARKS, PLACE))
    files = {
        "eye.dcm": eye,
        "oct.dcm": write_dicom(make_marked("2", SOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.5.4"), JPEGBaseline8Bit),
        "uid.dcm": write_dicom(make_marked("3", SOPInstanceUID=f"{MARK} UID"), JPEGBaseline8Bit),
        "cut.dcm": eye.replace(b"2.25.1", b"2.25.4")[: len(eye) // 2],
        "bent.dcm": eye.replace(b"2.25.1", b"2.25.5").replace(ROWS, ROWS.replace(b"US", b"DS")),
    }
    for name, data in files.items():
        (source / name).write_bytes(data)
    (source / "all.csv").write_text("uri\n" + "".join(f"{name}\n" for name in files))
    env = {
        "FUNDUS_DATABASE_URL": f"sqlite:///{ledger}",
        "FUNDUS_BROKER_URL": valkey,
        "FUNDUS_STORAGE_URL": store.as_uri(),
        "FUNDUS_PATIENT_KEY": "k" * 32,
        "FUNDUS_LOG_LEVEL": "debug",
        "FUNDUS_METRICS_PORT": str(port),
        "FUNDUS_FHIR_SYSTEM": "https://clinic.example/fundus",
        "FUNDUS_OVERLAY_PANELS": "true",
        "STUB_IMAGE_S": "0",
        "STUB_FOLDER": str(folder),
        "CUDA_VISIBLE_DEVICES": "0",
    }
    output = {}
    without_key = {name: value for name, value in env.items() if name != "FUNDUS_PATIENT_KEY"}

    def run(*arguments: str, fails: bool = False, env: dict[str, str] = env) -> None:
        done = fundus(*arguments, env=env, check=not fails)
        assert (done.returncode != 0) == fails, (arguments, done.stdout, done.stderr)
        output[" ".join(arguments)] = (done.stdout + done.stderr).encode()

    with Redis.from_url(valkey) as broker, collector() as received:
        env["FUNDUS_OTLP_URL"] = received.url
        broker.flushall()
        run("db", "upgrade")
        run("--debug", "enqueue", str(source), "--run", "refused", fails=True, env=without_key)
        run("enqueue", str(source), "--run", "listed", "--json")
        run("enqueue", str(source / "all.csv"), "--run", "named", "--json")
        output["messages"] = _dump_broker(broker)
        log = folder / "worker.log"
        with worker(env, log, sys.executable, str(STUB)) as process:
            for name in ("listed", "named"):
                wait_until_finished(name, env)
            wait_for(lambda: len(list(store.rglob("index.html"))) == 2, process, log, 120)
            output["metrics"] = urlopen(f"http://127.0.0.1:{port}/metrics").read()
        output["worker"] = log.read_bytes()
        run("enqueue", str(source / "all.csv"), "--run", "crashed", "--json")
        with worker(env | {"FUNDUS_DECODE_TIMEOUT_S": "0.001"}, log, sys.executable, str(STUB)):
            wait_until_finished("crashed", env)
        output["crashed worker"] = log.read_bytes()
        run("status", "named", "--json")
        for name in ("named", "crashed"):
            run("export", name, "--out", str(folder / f"{name}.csv"))
            output[f"{name}.csv"] = (folder / f"{name}.csv").read_bytes()
        run("export", "named", "--out", str(folder / "named.ndjson"))
        output["named.ndjson"] = (folder / "named.ndjson").read_bytes()
        run("audit", "--json")
        output["broker"] = _dump_broker(broker)
    output["traces"] = repr(received.spans).encode()
    with sqlite3.connect(ledger) as connection:
        output["ledger"] = "\n".join(connection.iterdump()).encode()
    output |= {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}
    return output


def test_runs_ended_as_they_should(written: dict[str, bytes]) -> None:
    refused = next(text for place, text in written.items() if place.startswith("--debug enqueue"))
    assert b"FUNDUS_PATIENT_KEY: is not set" in refused
    ledger = written["ledger"].decode()
    assert "'graded'" in ledger
    for code in ("dicom_class", "image_damaged", "image_decoder_crash"):
        assert f"'{code}'" in ledger
    assert all(f"'2.25.{number}'" in ledger for number in (1, 2, 4, 5))
    assert b"grade" in written["messages"]
    assert written["traces"].count(b"Span(") > 10
    assert b'fundus_worker_images_total{status="graded"}' in written["metrics"]
    assert b"DiagnosticReport" in written["named.ndjson"]
    kinds = {Path(name).suffix for name in written}
    assert {".jpg", ".html", ".csv"} <= kinds


def test_no_value_of_a_header_is_written_anywhere(written: dict[str, bytes]) -> None:
    found = [(place, mark) for place, data in written.items() for mark in (*MARKS, PLACE) if mark in data]
    assert found == []
    assert len(written) > 15
