"""S3 server for tests: SeaweedFS with one bucket for each test."""

import itertools
import json
import random
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.services.ports import reserve_all
from tests.services.process import Server, start_server

ACCESS_KEY = "test-access-key"
SECRET_KEY = "test-secret-key"
PARTS = ("s3", "master", "volume", "filer", "admin")
GRPC_OFFSET = 10_000
"""Offset of the gRPC port of each part from its HTTP port."""
OPTIONS = {
    "ip": "127.0.0.1",
    "ip.bind": "127.0.0.1",
    "admin.ui": "false",
    "webdav": "false",
    "master.telemetry": "false",
    "s3.port.iceberg": "0",
    "s3.port.lance": "0",
    # A missing bucket must be an error, as on other stores.
    "s3.autoCreateBucket": "false",
    # The default is half a gigabyte.
    "s3.cacheCapacityMB": "16",
    "s3.readerCacheSizeMB": "32",
    # Each bucket of a test takes some volumes; with the default, a small disk has too few for all tests.
    "volume.max": "10000",
}

LOW_MEMORY = "500MiB"
"""Memory limit for tests. At 200 MiB the garbage collector never rests: a request takes five times the CPU time, and an
idle server a tenth of a core."""
NORMAL_MEMORY = "2GiB"


@dataclass(frozen=True)
class Bucket:
    """A bucket of a running server."""

    name: str
    endpoint_url: str
    client: Any = field(repr=False)
    """A client that is independent of the project's code."""
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY

    @property
    def storage_url(self) -> str:
        return f"s3://{self.name}/overlays"


class SeaweedFS:
    """A server with one bucket for each test."""

    def __init__(self, server: Server, ports: range, secret_key: str = SECRET_KEY) -> None:
        self.server = server
        self.ports = ports
        """Ports of the PARTS; the first one is S3's."""
        self.endpoint_url = f"http://127.0.0.1:{ports[0]}"
        self._numbers = itertools.count(1)
        self.administrator = boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=secret_key,
            region_name="us-east-1",
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=1, read_timeout=10),
        )

    def wait(self) -> None:
        """Wait until the server stores an object, which it does only some time after it lists buckets."""
        self.server.wait_for(self._store_one, (BotoCoreError, ClientError))

    def create(self) -> Bucket:
        bucket = Bucket(f"test-{next(self._numbers)}", self.endpoint_url, self.administrator)
        self.administrator.create_bucket(Bucket=bucket.name)
        return bucket

    def stop(self) -> None:
        self.administrator.close()
        self.server.stop()
        # The server leaves some of its sockets behind.
        for port in (*self.ports, *(port + GRPC_OFFSET for port in self.ports)):
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)

    def _store_one(self) -> None:
        if "ready" not in {bucket["Name"] for bucket in self.administrator.list_buckets()["Buckets"]}:
            self.administrator.create_bucket(Bucket="ready")
        self.administrator.put_object(Bucket="ready", Key="ready", Body=b"ready")


def refuse_objects(bucket: Bucket, *patterns: str) -> None:
    """Make the store refuse to serve the objects whose key matches a pattern with `*`."""
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": [f"arn:aws:s3:::{bucket.name}/{pattern}" for pattern in patterns],
    }
    bucket.client.put_bucket_policy(
        Bucket=bucket.name, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    )


def start_seaweedfs(
    directory: Path,
    ports: range | None = None,
    secret_key: str = SECRET_KEY,
    *,
    memory: str = LOW_MEMORY,
    config: Path | None = None,
) -> SeaweedFS:
    """Start a server in `directory`, which must exist; returns before it is ready.

    ports: ports of an earlier start; new ones by default.
    memory: soft memory limit of its garbage collector. config: file with further keys and their rights.
    """
    ports = ports or _free_ports()
    listening = dict(zip((f"{part}.port" for part in PARTS), map(str, ports), strict=True))
    options = {"dir": str(directory), "s3.localSocket": str(directory / "s3.sock"), **OPTIONS, **listening}
    if config is not None:
        options["s3.config"] = str(config)
    server = start_server(
        [
            Path(sysconfig.get_path("scripts")) / "weed",
            "-logtostderr=true",
            "mini",
            *(f"-{name}={value}" for name, value in options.items()),
        ],
        directory / "seaweedfs.log",
        environment={"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": secret_key, "GOMEMLIMIT": memory},
    )
    return SeaweedFS(server, ports, secret_key)


def _free_ports() -> range:
    while True:
        first = random.randrange(10_000, 12_000 - len(PARTS))
        ports = range(first, first + len(PARTS))
        if reserve_all([*ports, *(port + GRPC_OFFSET for port in ports)]):
            return ports
