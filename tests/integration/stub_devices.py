"""Workers on devices that are not there, see `stub_worker`."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.integration.processes import worker
from tests.services.seaweedfs import Bucket

IMAGE_S = 0.25
"""A device does four a second; what else an image costs is some tens of milliseconds of processor."""
PROGRAM = (sys.executable, "-m", "tests.integration.stub_worker")


def settings_for(database_url: str, broker_url: str, bucket: Bucket, folder: Path) -> dict[str, str]:
    """Small chunks of small overlays; the devices count in `folder`."""
    return {
        "FUNDUS_DATABASE_URL": database_url,
        "FUNDUS_BROKER_URL": broker_url,
        "FUNDUS_STORAGE_URL": bucket.storage_url,
        "FUNDUS_S3_ENDPOINT_URL": bucket.endpoint_url,
        "FUNDUS_CHUNK_SIZE": "4",
        "FUNDUS_MAX_BATCH_SIZE": "4",
        "FUNDUS_DECODE_PROCESSES": "1",
        "FUNDUS_OVERLAY_SIZE_PX": "128",
        "FUNDUS_RESEND_AFTER_S": "5",
        "FUNDUS_RECONCILE_EVERY_S": "1",
        "STUB_IMAGE_S": str(IMAGE_S),
        "STUB_FOLDER": str(folder),
    }


@contextmanager
def devices(count: int, env: Mapping[str, str]) -> Iterator[None]:
    """`count` workers, each ready on a device of its own; told to stop at the end, each must end with status 0."""
    folder = Path(env["STUB_FOLDER"])
    with ExitStack() as workers:
        for device in range(count):
            log = folder / f"worker-{device}-{time.monotonic_ns()}.log"
            own = {**env, "CUDA_VISIBLE_DEVICES": str(device)}
            workers.enter_context(worker(own, log, *PROGRAM, "--name", f"gpu-{device}"))
        yield


def images_of(folder: Path) -> dict[str, int]:
    """How many images each device has had."""
    return {path.name: path.read_text().count("x") for path in folder.glob("device-*")}


def until_each_has(images: int, count: int, folder: Path) -> None:
    """Until each of `count` devices has had so many images."""
    deadline = time.monotonic() + 60
    while len(had := images_of(folder)) < count or min(had.values()) < images:
        assert time.monotonic() < deadline, had
        time.sleep(0.05)
