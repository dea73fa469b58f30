"""The rights of the keys in the Compose file, on the S3 server that it runs."""

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from deploy.write_env import write_env
from tests.deploy.compose import read_project
from tests.services.seaweedfs import start_seaweedfs

BUCKET = "fundus"
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Any:
    env_file = tmp_path_factory.mktemp("compose") / ".env"
    write_env(env_file)
    return read_project(env_file)


@pytest.fixture(scope="module")
def clients(project: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """S3 clients with the keys of the services that have any; the server's own are the administrator's."""
    folder = tmp_path_factory.mktemp("seaweedfs")
    (folder / "s3.json").write_text(project["configs"]["seaweedfs"]["content"])
    server = start_seaweedfs(folder, config=folder / "s3.json")
    try:
        server.wait()
        server.administrator.create_bucket(Bucket=BUCKET)
        server.administrator.put_object(Bucket=BUCKET, Key="overlays/a", Body=b"overlay")
        yield {
            name: boto3.client(
                "s3",
                endpoint_url=server.endpoint_url,
                aws_access_key_id=service["environment"][KEYS[0]],
                aws_secret_access_key=service["environment"][KEYS[1]],
                region_name="us-east-1",
            )
            for name, service in project["services"].items()
            if KEYS[0] in service["environment"] and name != "seaweedfs"
        }
    finally:
        server.stop()


def allowed(client: Any, bucket: str = BUCKET) -> set[str]:
    """Return which of the operations the keys may do."""
    operations = {
        "get": lambda: client.get_object(Bucket=bucket, Key="overlays/a"),
        "list": lambda: client.list_objects_v2(Bucket=bucket, Prefix="overlays/"),
        "put": lambda: client.put_object(Bucket=bucket, Key="overlays/b", Body=b"overlay"),
        "delete": lambda: client.delete_object(Bucket=bucket, Key="overlays/b"),
        "create": lambda: client.create_bucket(Bucket=f"{bucket}-2"),
    }
    done, codes = set[str](), set[str]()
    for name, operation in operations.items():
        try:
            operation()
            done.add(name)
        except ClientError as error:
            codes.add(error.response["Error"]["Code"])
    assert codes <= {"AccessDenied"}
    return done


def test_only_services_that_use_the_store_have_keys(clients: dict[str, Any]) -> None:
    assert set(clients) == {"worker", "worker-gpu", "fundus", "console"}


@pytest.mark.parametrize("service", ["worker", "worker-gpu", "fundus"])
def test_worker_uses_the_bucket_and_creates_none(clients: dict[str, Any], service: str) -> None:
    assert allowed(clients[service]) == {"get", "list", "put", "delete"}


def test_console_only_reads(clients: dict[str, Any]) -> None:
    assert allowed(clients["console"]) == {"get"}


@pytest.mark.parametrize("service", ["worker", "console"])
def test_no_service_uses_another_bucket(clients: dict[str, Any], service: str) -> None:
    assert allowed(clients[service], "ready") == set()


def test_administrator_is_known_to_the_store_only(project: Any) -> None:
    administrator = project["services"]["seaweedfs"]["environment"][KEYS[1]]
    others = [service for name, service in project["services"].items() if name != "seaweedfs"]
    assert not any(administrator in service["environment"].values() for service in others)
