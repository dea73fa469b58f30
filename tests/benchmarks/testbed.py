"""Real servers for a benchmark: a broker, a migrated ledger and an empty bucket."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.model import MODEL
from tests.benchmarks.photographs import full_size_jpegs
from tests.services.seaweedfs import NORMAL_MEMORY
from tests.services.stack import Stack, running_servers
from worker.core.settings import parse_settings
from worker.core.storage.storage import Storage
from worker.core.uris import s3_uri
from worker.ledger.database import connect
from worker.ledger.migrate import upgrade


@dataclass(frozen=True)
class Testbed:
    """Running servers; FUNDUS_ variables point to them. scratch: a temporary folder."""

    bucket: str
    scratch: Path

    def upload_photographs(self, count: int) -> list[str]:
        """Upload full-size photographs and return their URIs."""
        return [self.upload(f"photographs/{number:05}.jpg", data) for number, data in enumerate(full_size_jpegs(count))]

    def upload(self, key: str, data: bytes) -> str:
        """Upload an object and return its URI."""
        Storage(parse_settings()).client.put_object(Bucket=self.bucket, Key=key, Body=data)
        return s3_uri(self.bucket, key)


@contextmanager
def open_testbed() -> Iterator[Testbed]:
    """Run Valkey, PostgreSQL and SeaweedFS until the block ends."""
    servers = running_servers(["valkey", "postgres", "seaweedfs"], store_memory=NORMAL_MEMORY)
    with servers as stack, tempfile.TemporaryDirectory() as scratch:
        yield Testbed(_configure(stack), Path(scratch))


def _configure(stack: Stack) -> str:
    """Set the environment variables of the servers and migrate the ledger. Returns the name of the bucket.

    Reports are disabled: a worker would write one after each run, during the next measurement.
    """
    assert stack.broker_url is not None
    assert stack.postgres is not None
    assert stack.seaweedfs is not None
    stack.postgres.wait()
    stack.seaweedfs.wait()
    bucket = stack.seaweedfs.create()
    os.environ |= {
        "FUNDUS_DATABASE_URL": stack.postgres.url(stack.postgres.create("template0")),
        "FUNDUS_BROKER_URL": stack.broker_url,
        "FUNDUS_STORAGE_URL": bucket.storage_url,
        "FUNDUS_S3_ENDPOINT_URL": bucket.endpoint_url,
        "FUNDUS_LOG_LEVEL": "warning",
        "FUNDUS_REPORTS": "false",
        "AWS_ACCESS_KEY_ID": bucket.access_key,
        "AWS_SECRET_ACCESS_KEY": bucket.secret_key,
    }
    os.environ.setdefault("FUNDUS_MODEL", MODEL)
    engine = connect(parse_settings())
    upgrade(engine)
    engine.dispose()
    return bucket.storage_url.removeprefix("s3://").partition("/")[0]
