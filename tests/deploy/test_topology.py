"""Run the Compose file: command line, environment, volumes and health check of each service, in order."""

import base64
import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from deploy.write_env import write_env
from tests.deploy.compose import ROOT, read_project
from tests.deploy.containers import Container, Machine, find_obstacle, machine
from tests.deploy.images import find_image
from tests.deploy.test_dashboards import DASHBOARDS, load

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PROFILES = {"observability"}
NOT_IN_WHEELS = {"prometheus", "grafana"}
WITHIN_S = 240
REPORT = "overlays/samples/report/index.html"
EMPTY_AT_FIRST = {"Alerts", "Last nightly enqueue"}
"""Panels without data while no alert fires and no night has been enqueued."""
# Reads the results of a run with plain SQL and S3.
LOOK = """
import boto3, json, os, psycopg
with psycopg.connect(os.environ["FUNDUS_DATABASE_URL"]) as connection:
    rows = connection.execute("SELECT status, overlay_key, lease_token FROM gradings").fetchall()
client = boto3.client("s3", endpoint_url=os.environ["FUNDUS_S3_ENDPOINT_URL"], region_name="us-east-1")
found = client.list_objects_v2(Bucket="fundus", Prefix="overlays/").get("Contents", [])
print(json.dumps({"rows": rows, "overlays": {item["Key"]: item["Size"] for item in found}}))
"""
GET = """
import sys, urllib.request
request = urllib.request.Request(sys.argv[1], headers=dict([sys.argv[2:]]) if sys.argv[2:] else {})
print(urllib.request.urlopen(request, timeout=30).read().decode())
"""


@dataclass(frozen=True)
class System:
    """The running services."""

    machine: Machine
    services: Any
    containers: dict[str, Container]

    def fundus(self, *arguments: str) -> str:
        """Return the output of `docker compose run --rm fundus ...`."""
        image = find_image(self.services["fundus"]["image"])
        assert image is not None
        container = self.machine.start("fundus", image, *arguments)
        assert container.wait(WITHIN_S) == 0, container.log
        return container.log

    def get(self, url: str, *header: str) -> str:
        """Return the response of a URL within the services' network."""
        done = self.containers["exporter"].run("python", "-c", GET, url, *header)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def query(self, expression: str) -> Any:
        """Return the current result of a PromQL expression."""
        answer = json.loads(self.get(f"http://prometheus:9090/api/v1/query?query={quote(expression)}"))
        assert answer["status"] == "success"
        return answer["data"]["result"]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    reason = find_obstacle()
    if reason is not None:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("topology")
    write_env(folder / ".env")
    project = read_project(folder / ".env")
    containers: dict[str, Container] = {}
    with machine(project, folder / "machine") as place, ExitStack() as cleanup:
        for name in in_order(project["services"]):
            service = project["services"][name]
            image = find_image(service["image"])
            if image is None:
                assert name in NOT_IN_WHEELS
                continue
            for needed, how in (service.get("depends_on") or {}).items():
                wait(containers[needed], how["condition"])
            began = time.monotonic()
            container = containers[name] = place.start(name, image)
            cleanup.callback(container.server.stop)
            if container.health:
                container.wait_until_healthy()
            line = f"{name:11}{service['image']:28}{time.monotonic() - began:5.1f} s  {' '.join(container.command)}"
            print(line)  # noqa: T201 - a table for `pytest -s`
        yield System(place, project["services"], containers)


def in_order(services: Any) -> list[str]:
    """Return the services that `docker compose --profile observability up` starts, dependencies first."""
    up = {name: service for name, service in services.items() if PROFILES.issuperset(service.get("profiles", ()))}
    return [*TopologicalSorter({name: service.get("depends_on") or () for name, service in up.items()}).static_order()]


def wait(container: Container, condition: str) -> None:
    match condition:
        case "service_healthy":
            container.wait_until_healthy()
        case "service_completed_successfully":
            assert container.wait(WITHIN_S) == 0, container.log
        case _:
            assert container.server.process.poll() is None, container.log


def until(found: Callable[[], Any], why: Callable[[], Any]) -> Any:
    """Return the first answer that is not empty."""
    deadline = time.monotonic() + WITHIN_S
    while not (answer := found()):
        assert time.monotonic() < deadline, why()
        time.sleep(0.5)
    return answer


def test_doctor_reaches_every_service(system: System) -> None:
    output = system.fundus("doctor")
    assert "failed" not in output


def test_one_command_grades_the_samples(system: System) -> None:
    system.fundus("enqueue", "/images/manifest.csv", "--run", "samples")

    def finished() -> Any:
        status = json.loads(system.fundus("status", "samples", "--json").splitlines()[-1])
        return status if status["state"] == "finished" else None

    status = until(finished, lambda: system.containers["worker"].log[-3000:])
    assert (status["total"], status["graded"], status["ungradable"], status["failed"]) == (13, 11, 1, 1)

    def read_results() -> Any:
        done = system.containers["worker"].run("python", "-c", LOOK)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        return found if REPORT in found["overlays"] else None

    found = until(read_results, lambda: system.containers["worker"].log[-3000:])
    assert {token for *_, token in found["rows"]} == {None}
    graded = {f"overlays/{key}" for status, key, _ in found["rows"] if status == "graded"}
    assert len(graded) == 11
    report = {key for key in found["overlays"] if key.startswith(REPORT.rpartition("/")[0])}
    assert set(found["overlays"]) - report == graded
    assert min(found["overlays"][key] for key in graded) > 10_000


def test_flower_shows_the_chunk_with_the_password(system: System) -> None:
    secret = base64.b64encode(system.services["flower"]["environment"]["FLOWER_BASIC_AUTH"].encode()).decode()
    tasks = json.loads(system.get("http://flower:5555/api/tasks", "Authorization", f"Basic {secret}"))
    assert ("fundus.grade_chunk", "SUCCESS") in {(task["name"], task["state"]) for task in tasks.values()}


def test_exporter_exports_metrics_of_the_run(system: System) -> None:
    lines = system.get("http://exporter:9808/metrics").splitlines()
    assert {'fundus_images{status="graded"} 11.0', "fundus_ledger_up 1.0", "fundus_broker_up 1.0"} <= set(lines)


def test_prometheus_has_data_for_every_panel_and_the_alert_rules(system: System) -> None:
    if "prometheus" not in system.containers:
        pytest.skip("not installed: prometheus")
    prometheus = system.containers["prometheus"]
    found = until(lambda: system.query('fundus_images{status="graded"} == 11'), lambda: prometheus.log[-3000:])
    assert len(found) == 1
    for dashboard in map(load, DASHBOARDS):
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                answer = system.query(target["expr"])
                if panel["title"] not in EMPTY_AT_FIRST and not answer:
                    until(lambda expr=target["expr"]: system.query(expr), lambda expr=target["expr"]: expr)  # type: ignore[misc]
    groups = json.loads(system.get("http://prometheus:9090/api/v1/rules"))["data"]["groups"]
    rules = {rule["name"]: rule["state"] for group in groups for rule in group["rules"]}
    assert rules["FundusStalled"] == rules["FundusExporterDown"] == "inactive"


def test_console_requires_sign_in(system: System) -> None:
    page = system.containers["console"].run("python", "-c", GET, "http://127.0.0.1:8080/runs/samples")
    assert (page.returncode, "Sign in" in page.stdout, "IDRiD" in page.stdout) == (0, True, False), page.stderr


@pytest.mark.parametrize("name", ["worker", "beat", "flower", "console", "exporter"])
def test_own_service_has_no_privilege_and_one_writable_folder(name: str, system: System) -> None:
    container = system.containers[name]
    status = Path(f"/proc/{container.server.process.pid}/status").read_text()
    assert "\nCapEff:\t0000000000000000\n" in status
    assert "\nNoNewPrivs:\t1\n" in status
    attempt = container.run("touch", "/here", "/opt/fundus/here", "/var/lib/fundus/here", "/tmp/there")
    assert attempt.stderr.count("Read-only file system") == 3
    assert container.run("test", "-e", "/tmp/there").returncode == 0


def test_worker_exits_cleanly_on_sigterm(system: System) -> None:
    worker = system.containers["worker"]
    worker.server.process.send_signal(signal.SIGTERM)
    assert worker.wait(180) == 0, worker.log[-3000:]


def test_ledger_is_dumped_and_restored_as_the_runbook_says(system: System) -> None:
    dump, restore = re.findall(r"docker compose exec -T postgres (.+)", (ROOT / "docs" / "runbook.md").read_text())

    def run(command: str) -> None:
        in_container = ["/bin/sh", "-c", command.replace("ledger.dump", "/tmp/ledger.dump")]
        done = system.containers["postgres"].run("env", "PGHOST=/var/run/postgresql", *in_container)
        assert (done.returncode, done.stderr) == (0, "")

    def graded() -> int:
        return int(json.loads(system.fundus("status", "samples", "--json").splitlines()[-1])["graded"])

    run(dump)
    run("psql --quiet --username fundus --dbname fundus --command 'DELETE FROM gradings'")
    assert graded() == 0
    run(restore)
    assert graded() == 11
