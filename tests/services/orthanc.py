"""PACS for tests: Orthanc with its DICOMweb plugin, from the system's packages, on loopback with its own folder."""

import json
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.services.ports import reserve_port
from tests.services.process import Server, start_server

PROGRAM = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER = "fundus"
PASSWORD = "test-password"
REFUSED_UID = "2.25.403"
"""SOP Instance UID of an instance that is found and not served: HTTP 403."""
REFUSE = f"""
function IncomingHttpRequestFilter(method, uri, ip, username, httpHeaders)
  return string.find(uri .. '/', '/instances/{REFUSED_UID}/', 1, true) == nil
end
"""


def why_unavailable() -> str | None:
    """Return the reason why Orthanc cannot run on this machine, or None."""
    if PROGRAM is not None and PLUGIN.exists():
        return None
    return "needs Orthanc with DICOMweb: apt-get install orthanc orthanc-dicomweb"


@dataclass(frozen=True)
class StoredInstance:
    """UIDs of an instance in the archive."""

    study: str
    series: str
    instance: str


class Orthanc:
    """One archive. After a stop, `launch` starts it again on the same port with the same data."""

    def __init__(self, directory: Path, *, threads: int = 32) -> None:
        """`directory` must exist. threads: requests that are served at a time."""
        self.port = reserve_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.url = f"{self.address}/dicom-web"
        """What FUNDUS_DICOMWEB_URL names."""
        self.client = httpx.Client()
        """A client of Orthanc's own interface, which is independent of the project's code."""
        self._directory = directory
        self._server: Server | None = None
        settings = {
            "Name": "fundus-tests",
            "StorageDirectory": str(directory / "storage"),
            "IndexDirectory": str(directory / "storage"),
            "HttpPort": self.port,
            "HttpThreadsCount": threads,
            # Orthanc 1.10 listens on every interface; requests from other machines are refused.
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {USER: PASSWORD},
            "DicomServerEnabled": False,
            "OverwriteInstances": False,
            "SaveJobs": False,
            "LuaScripts": [str(directory / "refuse.lua")],
            "Plugins": [str(PLUGIN)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        (directory / "refuse.lua").write_text(REFUSE)
        (directory / "orthanc.json").write_text(json.dumps(settings))

    def launch(self) -> Server:
        """Start the archive; returns before it is ready."""
        self.client.close()
        assert PROGRAM is not None
        self.client = httpx.Client(base_url=self.address, auth=(USER, PASSWORD), timeout=30)
        command = [PROGRAM, self._directory / "orthanc.json"]
        # SIGTERM takes Orthanc 2 to 5 s, and an archive must survive a kill.
        log = self._directory / "orthanc.log"
        self._server = start_server(command, log, environment={}, stop_signal=signal.SIGKILL)
        return self._server

    def wait(self) -> None:
        """Wait until the archive answers."""
        assert self._server is not None
        self._server.wait_for(lambda: self.client.get("/system").raise_for_status(), (httpx.HTTPError,))

    def add(self, *files: bytes) -> None:
        """Store DICOM files."""
        for file in files:
            self.client.post("/instances", content=file).raise_for_status()

    def instances(self) -> list[StoredInstance]:
        """Return the UIDs of all instances, in no order."""
        query = {"Level": "Instance", "Query": {}, "Expand": False}
        found = self.client.post("/tools/find", json=query).raise_for_status().json()
        return [self._identify(name) for name in found]

    def read(self, sop_instance_uid: str) -> bytes:
        """Return the file of the only instance with this UID."""
        query = {"Level": "Instance", "Query": {"SOPInstanceUID": sop_instance_uid}}
        (name,) = self.client.post("/tools/find", json=query).raise_for_status().json()
        return self.client.get(f"/instances/{name}/file").raise_for_status().content

    def delete(self, sop_instance_uid: str) -> None:
        """Delete the only instance with this UID."""
        query = {"Level": "Instance", "Query": {"SOPInstanceUID": sop_instance_uid}}
        (name,) = self.client.post("/tools/find", json=query).raise_for_status().json()
        self.client.delete(f"/instances/{name}").raise_for_status()

    def clear(self) -> None:
        """Delete everything."""
        patients = self.client.get("/patients").raise_for_status().json()
        if patients:
            self.client.post("/tools/bulk-delete", json={"Resources": patients}).raise_for_status()

    def stop(self) -> None:
        """Kill the archive; its data stay."""
        self.client.close()
        if self._server is not None:
            self._server.stop()

    def _identify(self, name: str) -> StoredInstance:
        tags = self.client.get(f"/instances/{name}/simplified-tags").raise_for_status().json()
        return StoredInstance(tags["StudyInstanceUID"], tags["SeriesInstanceUID"], tags["SOPInstanceUID"])
