"""Run the pods of the cluster with their arguments, variables and probes, each with its own database login."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from deploy.write_env import write_env
from tests.deploy.compose import ROOT, read_project
from tests.deploy.containers import Container, Machine, find_obstacle, machine
from tests.deploy.images import find_image
from tests.deploy.test_kubernetes import PODS, SETTINGS, triggers
from tests.deploy.test_topology import WITHIN_S, until
from worker import __version__

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MEMBERS = {
    "producer": ("fundus_producer",),
    "worker": ("fundus_worker", "fundus_reader"),
    "reader": ("fundus_reader",),
    "keeper": ("fundus_keeper",),
    "console": ("fundus_console",),
}
"""Roles of each login, as in the runbook."""
FILL = """
import boto3, pathlib, sys
client = boto3.client("s3", endpoint_url="http://seaweedfs:8333", region_name="us-east-1")
for path in pathlib.Path(sys.argv[1]).glob("*.jpg"):
    client.upload_file(str(path), "fundus", f"inbox/{path.name}")
"""
ASK = """
import sys, urllib.request
answer = urllib.request.urlopen(sys.argv[1], timeout=10)
print(answer.status, answer.url.removeprefix("http://127.0.0.1:8080"))
"""


@dataclass(frozen=True)
class Cluster:
    """The site's services, as Compose runs them, and the pods."""

    machine: Machine
    services: dict[str, Any]
    containers: dict[str, Container]
    cleanup: ExitStack

    def start(self, name: str) -> Container:
        image = find_image(self.services[name]["image"])
        assert image is not None
        container = self.containers[name] = self.machine.start(name, image)
        self.cleanup.callback(container.server.stop)
        if container.health:
            container.wait_until_healthy()
        return container

    def complete(self, name: str) -> None:
        container = self.start(name)
        assert container.wait(WITHIN_S) == 0, container.log

    def sql(self, *arguments: str) -> str:
        """Return the output of `psql`, run as the owner of the ledger."""
        psql = ("env", "PGHOST=/var/run/postgresql", "psql", "--username=fundus", "--dbname=fundus", "--tuples-only")
        done = self.containers["postgres"].run(*psql, "--no-align", "--quiet", "--set=ON_ERROR_STOP=1", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def secrets_of(services: Any) -> dict[str, dict[str, str]]:
    """Return the secrets of the runbook with the values of the Compose services."""
    environment = services["worker"]["environment"]
    storage = {role: storage_keys(services["console" if role == "console" else "worker"]) for role in MEMBERS}
    ledgers = {role: {"url": f"postgresql://login_{role}:password_{role}@postgres:5432/fundus"} for role in MEMBERS}
    return {
        "fundus-ledger-owner": {"url": environment["FUNDUS_DATABASE_URL"]},
        **{f"fundus-ledger-{role}": secret for role, secret in ledgers.items()},
        "fundus-broker": {"url": environment["FUNDUS_BROKER_URL"]},
        **{f"fundus-storage-{role}": keys for role, keys in storage.items()},
        "fundus-flower": {"basic-auth": "auditor:secret"},
    }


def storage_keys(service: Any) -> dict[str, str]:
    environment = service["environment"]
    return {"access-key": environment["AWS_ACCESS_KEY_ID"], "secret-key": environment["AWS_SECRET_ACCESS_KEY"]}


def service_of(pod: Any, secrets: dict[str, dict[str, str]]) -> Any:
    """Describe a pod as a Compose service."""
    (container,) = pod["spec"]["containers"]
    environment = SETTINGS | {"FUNDUS_S3_ENDPOINT_URL": "http://seaweedfs:8333"} if "envFrom" in container else {}
    for variable in container["env"]:
        if "value" in variable:
            environment = environment | {variable["name"]: variable["value"]}
        else:
            secret = variable["valueFrom"]["secretKeyRef"]
            if secret["name"] in secrets or not secret.get("optional"):
                environment = environment | {variable["name"]: secrets[secret["name"]][secret["key"]]}
    probe = container.get("startupProbe", {}).get("exec", {}).get("command")
    return {
        "image": f"{container['image']}:{__version__}",
        "command": container.get("args"),
        "environment": environment,
        "read_only": container["securityContext"]["readOnlyRootFilesystem"],
        "cap_drop": container["securityContext"]["capabilities"]["drop"],
        "security_opt": ["no-new-privileges:true"],
        "tmpfs": [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "tmp"],
        "volumes": [
            {"type": "volume", "source": mount["name"], "target": mount["mountPath"]}
            for mount in container["volumeMounts"]
            if mount["name"] != "tmp"
        ],
        "healthcheck": {"test": ["CMD", *probe]} if probe else {"disable": True},
    }


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    reason = find_obstacle()
    if reason is not None:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("cluster")
    write_env(folder / ".env")
    project = read_project(folder / ".env")
    services = {name: project["services"][name] for name in ("valkey", "postgres", "seaweedfs")}
    secrets = secrets_of(project["services"])
    services |= {name: service_of(pod, secrets) for name, pod in PODS.items()}
    with machine(project | {"services": services}, folder / "machine") as place, ExitStack() as cleanup:
        found = Cluster(place, services, {}, cleanup)
        for name in ("valkey", "postgres", "seaweedfs"):
            found.start(name)
        found.complete("fundus-migrate")
        found.sql("--single-transaction", f"--file={ROOT / 'deploy' / 'postgres' / 'roles.sql'}")
        for role, groups in MEMBERS.items():
            login = f"CREATE ROLE login_{role} LOGIN PASSWORD 'password_{role}' IN ROLE {', '.join(groups)}"
            found.sql(f"--command={login}")
        yield found


def test_night_is_enqueued_graded_closed_and_retained(cluster: Cluster) -> None:
    def read_triggers() -> list[int]:
        """Return what KEDA reads: messages on each list, and whether the ledger has queued images."""
        found = triggers()
        lists = [found[queue]["metadata"]["listName"] for queue in ("live", "bulk")]
        lengths = [cluster.containers["valkey"].run("valkey-cli", "llen", name).stdout for name in lists]
        query = f"SET ROLE login_reader; {found['ledger']['metadata']['query']}"
        return [*map(int, lengths), int(cluster.sql(f"--command={query}"))]

    exporter = cluster.start("fundus-exporter")
    flower = cluster.start("fundus-flower")
    storage = cluster.services["fundus-nightly"]["environment"]
    keys = [f"{name}={value}" for name, value in storage.items() if name.startswith("AWS_")]
    filled = exporter.run("env", *keys, "python", "-c", FILL, str(ROOT / "producer" / "demo" / "samples"))
    assert filled.returncode == 0, filled.stderr
    assert read_triggers() == [0, 0, 0]

    cluster.complete("fundus-nightly")
    assert read_triggers() == [0, 1, 1]

    worker = cluster.start("fundus-worker")
    written = "SELECT 1 FROM runs JOIN reports USING (run_id) WHERE state = 'finished' AND written_at IS NOT NULL"
    until(lambda: cluster.sql(f"--command={written}"), lambda: worker.log[-3000:])
    rows = cluster.sql("--command=SELECT status, count(*) FROM gradings GROUP BY status ORDER BY status")
    assert rows.splitlines() == ["failed|1", "graded|11", "ungradable|1"]
    assert read_triggers() == [0, 0, 0]
    worker.server.process.terminate()
    assert worker.wait(180) == 0, worker.log[-3000:]
    for container in (exporter, flower):
        assert container.server.process.poll() is None, container.log[-3000:]

    cluster.complete("fundus-close-nights")
    assert cluster.sql("--command=SELECT closed_at IS NOT NULL FROM nights") == "t"
    (report,) = (cluster.machine.folder / "volumes" / "reports").glob("nightly-*/index.html")
    cluster.complete("fundus-retention")
    assert report.exists()
    cluster.complete("fundus-reconcile")
    assert read_triggers() == [0, 0, 0]


def test_console_answers_its_probe_and_requires_sign_in(cluster: Cluster) -> None:
    console = cluster.start("fundus-console")

    def answer(path: str) -> str:
        return console.run("python", "-c", ASK, f"http://127.0.0.1:8080{path}").stdout.strip()

    until(lambda: answer("/healthz") == "200 /healthz", lambda: console.log[-3000:])
    assert answer("/runs") == "200 /sign-in?next=/runs"


def test_exporter_can_read_the_ledger_and_not_write_to_it(cluster: Cluster) -> None:
    url = cluster.services["fundus-exporter"]["environment"]["FUNDUS_DATABASE_URL"]
    psql = cluster.containers["postgres"]
    assert psql.run("psql", url, "--command=SELECT count(*) FROM gradings").returncode == 0
    refused = psql.run("psql", url, "--command=DELETE FROM gradings")
    assert "permission denied" in refused.stderr
