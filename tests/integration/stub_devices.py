"""Workers with simulated devices, see `stub_worker`."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.integration.processes import worker
from tests.services.seaweedfs import Bucket

IMAGE_S = 0.25
"""Time of one image on a simulated device; its other steps take tens of milliseconds of CPU time."""
PROGRAM = (sys.executable, "-m", "tests.integration.stub_worker")


def stub_settings(database_url: str, broker_url: str, bucket: Bucket, folder: Path) -> dict[str, str]:
    """Return settings with small chunks and small overlays; devices write their counts to `folder`."""
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
    """Start `count` workers, each with one device; stop them at the end and check for exit status 0."""
    folder = Path(env["STUB_FOLDER"])
    with ExitStack() as workers:
        for device in range(count):
            log = folder / f"worker-{device}-{time.monotonic_ns()}.log"
            own = {**env, "CUDA_VISIBLE_DEVICES": str(device)}
            workers.enter_context(worker(own, log, *PROGRAM, "--name", f"gpu-{device}"))
        yield


def images_by_device(folder: Path) -> dict[str, int]:
    """Return the number of images that each device has processed."""
    return {path.name: path.read_text().count("x") for path in folder.glob("device-*")}


def wait_for_images(images: int, count: int, folder: Path) -> None:
    """Wait until each of `count` devices has processed at least `images` images."""
    deadline = time.monotonic() + 60
    while len(processed := images_by_device(folder)) < count or min(processed.values()) < images:
        assert time.monotonic() < deadline, processed
        time.sleep(0.05)
