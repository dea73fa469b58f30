"""Cameras push photographs: to Orthanc with the configuration of the profile `pacs`, or to storescp before a folder."""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.services.dicom_objects import Exposure, make_photograph
from tests.services.orthanc import PLUGIN, PROGRAM, why_unavailable
from tests.services.ports import reserve_port
from tests.services.process import Server, start_server
from worker.core.dicomweb.client import INSTANCE_UID, read_text
from worker.core.dicomweb.connect import make_dicomweb_client
from worker.core.settings import Settings
from worker.core.uris import InstancePath

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "producer" / "demo" / "samples" / "retina.jpg"
PASSWORD = "secret-of-the-test"

pytestmark = pytest.mark.skipif(shutil.which("storescu") is None, reason="needs DCMTK: apt-get install dcmtk")


@pytest.fixture
def photograph(tmp_path: Path) -> tuple[Exposure, Path]:
    exposure = Exposure()
    file = tmp_path / "photograph.dcm"
    file.write_bytes(make_photograph(SAMPLE.read_bytes(), exposure))
    return exposure, file


def push(file: Path, port: int, *, called: str = "FUNDUS", calling: str = "CAMERA") -> bool:
    """Send a file as a camera does; return whether it was accepted."""
    command = ["storescu", "--propose-jpeg8", "-aet", calling, "-aec", called, "127.0.0.1", str(port), str(file)]
    return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """Orthanc with the configuration of Compose, on other ports and folders; its HTTP address and DICOM port."""
    if (reason := why_unavailable()) is not None:
        pytest.skip(reason)
    storage = tmp_path / "storage"
    storage.mkdir()
    configuration = json.loads((ROOT / "deploy" / "pacs" / "orthanc.json").read_text())
    http_port, dicom_port = reserve_port(), reserve_port()
    changed = {
        "StorageDirectory": str(storage),
        "IndexDirectory": str(storage),
        "Plugins": [str(PLUGIN)],
        "HttpPort": http_port,
        "DicomPort": dicom_port,
        "RemoteAccessAllowed": False,
    }
    assert changed.keys() <= configuration.keys()
    file = tmp_path / "orthanc.json"
    file.write_text(json.dumps(configuration | changed))
    assert PROGRAM is not None
    environment = {"ORTHANC_PASSWORD": PASSWORD, "CAMERA_AET": "CAMERA"}
    server = start_server([PROGRAM, file], tmp_path / "orthanc.log", environment=environment)
    address = f"http://127.0.0.1:{http_port}"
    try:
        server.wait_for(lambda: httpx.get(f"{address}/system"), (httpx.HTTPError,))
        yield address, dicom_port
    finally:
        server.stop()


def test_pushed_photograph_is_found_and_read_by_dicomweb(
    orthanc: tuple[str, int], photograph: tuple[Exposure, Path], make_settings: Callable[..., Settings]
) -> None:
    address, port = orthanc
    exposure, file = photograph

    assert push(file, port)
    assert not push(file, port, calling="STRANGER")
    assert not push(file, port, called="OTHER")
    assert push(file, port)

    client = make_dicomweb_client(
        make_settings(dicomweb_url=f"{address}/dicom-web", dicomweb_user="fundus", dicomweb_password=PASSWORD)
    )
    found = [read_text(one, INSTANCE_UID) for one in client.search("instances", [], study=exposure.study_uid)]
    assert found == [exposure.instance_uid]
    path = InstancePath(exposure.study_uid, exposure.series_uid, exposure.instance_uid)
    assert SAMPLE.read_bytes() in client.retrieve(path, max_bytes=2**24)


def test_orthanc_answers_nothing_without_its_password(orthanc: tuple[str, int]) -> None:
    address, _ = orthanc
    for user in (None, ("orthanc", "orthanc"), ("fundus", ""), ("fundus", "${ORTHANC_PASSWORD}")):
        assert httpx.get(f"{address}/dicom-web/studies", auth=user).status_code == 401


@pytest.fixture
def storescp(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """The command of the documentation with other folders and port; the watched folder and the port."""
    incoming, inbox, port = tmp_path / "incoming", tmp_path / "inbox", reserve_port()
    incoming.mkdir()
    inbox.mkdir()
    found = re.search(r"^\$ (storescp (?:.*\\\n)*.*)$", (ROOT / "docs" / "dicom.md").read_text(), re.MULTILINE)
    assert found is not None
    command = found[1].replace("\\\n", "").replace("/photographs/incoming", str(incoming))
    words = shlex.split(command.replace("/photographs/inbox", str(inbox)))
    assert words[-1] == "11112"
    server: Server = start_server([*words[:-1], str(port)], tmp_path / "storescp.log", environment={})
    try:
        yield inbox, port
    finally:
        server.stop()


def test_pushed_photograph_appears_whole_in_the_watched_folder(
    storescp: tuple[Path, int], photograph: tuple[Exposure, Path], tmp_path: Path
) -> None:
    inbox, port = storescp
    exposure, file = photograph
    hostile = tmp_path / "hostile.dcm"
    hostile.write_bytes(make_photograph(SAMPLE.read_bytes(), Exposure(uid="../../../evil; touch evil")))

    # Refused until it listens; afterwards the file is moved before the camera gets its answer.
    assert any(push(file, port) for _ in range(50))
    assert push(file, port)
    assert push(hostile, port)

    assert sorted(path.name for path in inbox.iterdir()) == [
        "OPb..._.._.._evil_touchevil.dcm",
        f"OPb.{exposure.instance_uid}.dcm",
    ]
    assert SAMPLE.read_bytes() in (inbox / f"OPb.{exposure.instance_uid}.dcm").read_bytes()
    assert list(tmp_path.rglob("evil")) == []
    assert list((tmp_path / "incoming").iterdir()) == []
