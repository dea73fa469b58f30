"""A run of numbered photographs during which a test injects faults."""

import hashlib
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.deployment import Deployment
from tests.faults.hooks import PROGRAM, Hooks
from tests.faults.invariant import RunCheck, check_run
from tests.faults.numbered_photographs import write_photographs
from tests.faults.supervisor import Supervisor
from tests.integration.processes import FUNDUS, fundus
from tests.services.dicom_objects import Exposure, make_photograph
from tests.services.orthanc import Orthanc
from tests.services.seaweedfs import Bucket, refuse_objects

RUN = "trial"
POLL_INTERVAL_S = 0.1


@dataclass(frozen=True)
class InjectedFault:
    """Time of a fault and the images in flight at that time."""

    at: float
    in_flight: frozenset[str]


@dataclass
class FaultRun:
    """A run in progress; `until` and `wait` also restart dead workers."""

    deployment: Deployment
    supervisor: Supervisor
    image_ids: list[str]
    random: random.Random
    faults: list[InjectedFault] = field(default_factory=list)

    def until(self, condition: Callable[[], bool], *, within_s: float = 120) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            self.supervisor.restart_dead()
            assert time.monotonic() < deadline, f"condition not met within {within_s} s:\n{self._state()}"
            time.sleep(POLL_INTERVAL_S)

    def wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end, within_s=seconds + 5)

    def settled(self) -> int:
        return int(self.deployment.rows("SELECT count(*) FROM gradings WHERE status <> 'queued'")[0][0])

    def until_settled(self, share: float) -> None:
        self.until(lambda: self.settled() >= share * len(self.image_ids))

    def until_finished(self, *, within_s: float = 120) -> None:
        self.until(lambda: self.deployment.rows("SELECT state FROM runs") == [("finished",)], within_s=within_s)

    def record_fault(self) -> None:
        """Record that a fault is injected now."""
        leased = self.deployment.rows("SELECT image_id FROM gradings WHERE lease_token IS NOT NULL")
        self.faults.append(InjectedFault(time.time(), frozenset(image_id for (image_id,) in leased)))

    def until_killed(self, times: int) -> None:
        """Wait until workers have ended `times` times; record each end as a fault."""
        for number in range(len(self.supervisor.exits), times):
            self.until(lambda number=number: len(self.supervisor.exits) > number)  # type: ignore[misc]
            self.record_fault()

    def recovery_s(self) -> float:
        """Return the longest time from a fault until its images in flight and one other image were settled."""
        settled = {image_id: float(at) for image_id, at in self.deployment.rows("SELECT image_id, at FROM settlings")}
        longest = 0.0
        for fault in self.faults:
            in_flight = [settled[image_id] for image_id in fault.in_flight]
            others = [at for image_id, at in settled.items() if at > fault.at and image_id not in fault.in_flight]
            longest = max(longest, *(at - fault.at for at in in_flight), min(others, default=fault.at) - fault.at, 0.0)
        return longest

    def finish(self, *, within_s: float = 120, exits_with: int = 0) -> RunCheck:
        """Wait until the run is finished, stop the workers and check all invariants."""
        self.until_finished(within_s=within_s)
        self.until(self.supervisor.ready)
        codes = self.supervisor.stop()
        assert set(codes) <= {exits_with}, (codes, self.supervisor.logs[-3000:])
        assert self.supervisor.leftovers() == []
        # Celery and Kombu log tracebacks while a broker is unreachable; these two events are bugs of the project.
        for crash in ("[error    ] unexpected", "[error    ] periodic_work_failed"):
            assert crash not in self.supervisor.logs, self.supervisor.logs
        return check_run(self.deployment, RUN, self.image_ids)

    def _state(self) -> str:
        try:
            counts = self.deployment.rows(
                "SELECT status, attempts, lease_token IS NOT NULL, error_code, count(*) FROM gradings GROUP BY 1,2,3,4"
            )
        except Exception as error:  # noqa: BLE001 - the error is part of the failure message
            counts = [(repr(error),)]
        return f"{counts}\nexits {self.supervisor.exits}\n{self.supervisor.logs[-4000:]}"


@contextmanager
def fault_run(
    deployment: Deployment,
    bundle: Path,
    *,
    images: int,
    workers: int = 1,
    hooks: Hooks | None = None,
    env: Mapping[str, str] | None = None,
    seed: int = 1,
    suffix: str = ".png",
    replaced: Mapping[str, bytes] | None = None,
    in_bucket: bool = False,
    refused: Sequence[str] = (),
    pacs: Orthanc | None = None,
) -> Iterator[FaultRun]:
    """Start `workers` workers and enqueue a run of `images` photographs.

    replaced: file contents that replace photographs, by image id.
    in_bucket: read the photographs from the object store, with SHA-256 in the manifest.
    refused: image ids whose objects the store refuses to serve.
    pacs: reads the photographs from there, instead.
    """
    suffix = ".jpg" if pacs else suffix
    write_photographs(deployment.folder / "photographs", images, suffix)
    for image_id, content in (replaced or {}).items():
        (deployment.folder / "photographs" / f"{image_id}{suffix}").write_bytes(content)
    ids = [f"p{number:04}" for number in range(images)]
    manifest = deployment.folder / "manifest.csv"
    full = {**deployment.env, "FUNDUS_MODEL": str(bundle), **(env or {})}
    source = str(manifest)
    if pacs is not None:
        ids = _put_in_pacs(pacs, deployment.folder / "photographs", images)
        source = f"dicomweb://pacs?StudyDate={Exposure().study_date}"
    elif in_bucket:
        bucket, rows = _put_in_bucket(deployment, ids, suffix)
        full["FUNDUS_SOURCE_ROOTS"] = f"s3://{bucket.name}/"
        if refused:
            refuse_objects(bucket, *(f"{image_id}{suffix}" for image_id in refused))
        manifest.write_text("uri,sha256,image_id\n" + rows)
    else:
        manifest.write_text("uri,image_id\n" + "".join(f"photographs/{i}{suffix},{i}\n" for i in ids))
    command: list[str | Path] = [FUNDUS, "worker"]
    if hooks is not None:
        # The hooks patch this engine.
        full |= {"FAULT_HOOKS": hooks.model_dump_json(), "FUNDUS_ENGINE": "tensorflow"}
        command = [sys.executable, "-m", PROGRAM]
    supervisor = Supervisor(command, workers, full, deployment.folder)
    try:
        running = FaultRun(deployment, supervisor, ids, random.Random(seed))
        running.until(supervisor.ready)
        fundus("enqueue", source, "--run", RUN, env=full)
        yield running
    finally:
        for worker in supervisor.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGCONT)
                worker.kill()
                worker.wait()


def _put_in_pacs(pacs: Orthanc, photographs: Path, count: int) -> list[str]:
    """Store the photographs as DICOM; return their SOP Instance UIDs."""
    exposures = [Exposure(study=f"study-{number % 10}", uid=f"2.25.{number + 1000}") for number in range(count)]
    for number, exposure in enumerate(exposures):
        pacs.add(make_photograph((photographs / f"p{number:04}.jpg").read_bytes(), exposure))
    return [exposure.instance_uid for exposure in exposures]


def _put_in_bucket(deployment: Deployment, ids: list[str], suffix: str) -> tuple[Bucket, str]:
    """Upload the photographs to a new bucket; return it and the rows of the manifest."""
    assert deployment.s3 is not None
    bucket, rows = deployment.s3.create(), []
    for image_id in ids:
        data = (deployment.folder / "photographs" / f"{image_id}{suffix}").read_bytes()
        bucket.client.put_object(Bucket=bucket.name, Key=f"{image_id}{suffix}", Body=data)
        rows.append(f"s3://{bucket.name}/{image_id}{suffix},{hashlib.sha256(data).hexdigest()},{image_id}\n")
    return bucket, "".join(rows)
