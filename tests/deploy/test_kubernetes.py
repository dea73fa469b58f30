"""The Kubernetes manifests are valid by Kubernetes's schemas and consistent with the programs that run in them."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import psycopg
import pytest
import yaml
from celery.schedules import crontab
from redis import Redis
from sqlalchemy import create_engine

from producer.cli import COMMANDS
from tests.unit.producer.ledger_rows import make_run, references
from tests.unit.test_architecture import HEAVY, loaded_by
from worker import __version__
from worker.console.security_headers import HEALTH
from worker.core.messages import GradeChunk
from worker.core.messaging.broker import make_celery, send_chunk
from worker.core.settings import PREFIX, Settings, parse_settings
from worker.core.vocabulary import Queue
from worker.maintenance.beat_tasks import schedule

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
BASE = KUBERNETES / "base"
ROLES = ROOT / "deploy" / "postgres" / "roles.sql"
VERSION = "1.34"
"""Version of the Kubernetes schemas. They do not include KEDA's."""
SLOWEST_STEP_S = 110
"""See `worker.inference.watchdog`."""
LEDGER_ROLES = {
    "fundus-migrate": "owner",
    "fundus-worker": "worker",
    "fundus-reconcile": "worker",
    "fundus-nightly": "producer",
    "fundus-close-nights": "keeper",
    "fundus-retention": "keeper",
    "fundus-exporter": "reader",
    "fundus-console": "console",
    "fundus-flower": None,
    "fundus-publish": "publisher",
}
KEEPERS = ("fundus-close-nights", "fundus-retention")
REPORTS = "/var/lib/fundus/reports"
CERTIFICATES = "/etc/fundus/certificates"
PLAIN = {
    "FLOWER_ADDRESS",
    "FLOWER_READ_ONLY",
    "FUNDUS_DECODE_PROCESSES",
    "FUNDUS_METRICS_HOST",
    "FUNDUS_METRICS_PORT",
    "FUNDUS_RETAIN_OVERLAYS_DAYS",
    "FUNDUS_RETAIN_ROWS_DAYS",
}
"""Variables that are not secrets."""
PACS = KUBERNETES / "components" / "pacs"
SIGN_IN = {f"FUNDUS_{service}_{name}" for service in ("DICOMWEB", "FHIR") for name in ("USER", "PASSWORD", "TOKEN")}
OPTIONAL = {"FUNDUS_ALARM_URLS", "FUNDUS_PATIENT_KEY", *SIGN_IN}
"""Variables of optional secrets."""
SETTINGS = dict(line.split("=", 1) for line in (BASE / "settings.env").read_text().splitlines())


def load(text: str) -> list[Any]:
    return [document for document in yaml.safe_load_all(text) if document is not None]


def of_kind(kind: str, objects: list[Any]) -> dict[str, Any]:
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}


def pods(objects: list[Any]) -> dict[str, Any]:
    """Return the pod of each workload, by the workload's name."""
    found = {}
    for each in objects:
        spec = each.get("spec", {})
        template = spec.get("template") or spec.get("jobTemplate", {}).get("spec", {}).get("template")
        if template is not None:
            found[each["metadata"]["name"]] = template
    return found


BASE_OBJECTS = [
    each for path in sorted(BASE.glob("*.yaml")) if path.stem != "kustomization" for each in load(path.read_text())
]
PODS = pods(BASE_OBJECTS)


@pytest.fixture(scope="module", params=["cpu", "gpu"])
def overlay(request: pytest.FixtureRequest) -> tuple[str, list[Any]]:
    """Return an overlay's name and all its objects."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("not installed: kubectl")
    built = subprocess.run(
        [kubectl, "kustomize", KUBERNETES / "overlays" / request.param], capture_output=True, text=True, check=False
    )
    assert (built.returncode, built.stderr) == (0, "")
    return request.param, load(built.stdout)


@pytest.fixture(scope="module", params=["cpu", "gpu"])
def pacs_objects(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Return all objects of an overlay with the component `pacs`, as docs/runbook.md adds it."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("not installed: kubectl")
    folder = tmp_path_factory.mktemp("pacs").resolve()
    overlay, component = (os.path.relpath(path, folder) for path in (KUBERNETES / "overlays" / request.param, PACS))
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "fundus",
        "resources": [overlay],
        "components": [component],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    built = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=False)
    assert (built.returncode, built.stderr) == (0, "")
    return load(built.stdout)


def check_schemas(objects: list[Any]) -> None:
    for each in objects:
        if not each["apiVersion"].startswith("keda.sh/"):
            kubernetes_validate.validate(each, VERSION, strict=True)


def test_base_is_valid() -> None:
    check_schemas(BASE_OBJECTS)
    listed = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(path.name for path in BASE.glob("*.yaml") if path.stem != "kustomization")


def test_misspelt_field_is_detected() -> None:
    deployment = of_kind("Deployment", BASE_OBJECTS)["fundus-worker"]
    wrong = deployment | {"spec": deployment["spec"] | {"replica": 1}}
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        check_schemas([wrong])


def test_overlay_is_valid(overlay: tuple[str, list[Any]]) -> None:
    name, objects = overlay
    check_schemas(objects)
    assert {each["metadata"]["namespace"] for each in objects if each["kind"] != "Namespace"} == {"fundus"}
    images = {container["image"] for pod in pods(objects).values() for container in pod["spec"]["containers"]}
    worker = f"fundus-worker:{__version__}" + ("-gpu" if name == "gpu" else "")
    assert images == {worker, *(f"fundus-{name}:{__version__}" for name in ("producer", "flower", "console"))}


def test_overlay_requests_the_hardware_of_a_worker(overlay: tuple[str, list[Any]]) -> None:
    name, objects = overlay
    deployment = of_kind("Deployment", objects)["fundus-worker"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    gpus = container["resources"]["limits"].get("nvidia.com/gpu")
    assert gpus == ("1" if name == "gpu" else None)
    processes = ["worker", "--name", "grader", "--processes", "3"]
    assert container.get("args") == (processes if name == "gpu" else None)
    ports = [port["containerPort"] for port in container["ports"]]
    assert ports == ([9809, 9810, 9811] if name == "gpu" else [9809])
    # With the annotation, Prometheus would read one port of the pod.
    annotations = deployment["spec"]["template"]["metadata"]["annotations"]
    assert annotations.get("prometheus.io/port") == (None if name == "gpu" else "9809")
    # A new worker would wait for a GPU that the old one holds until the new one is ready.
    surge = deployment["spec"].get("strategy", {}).get("rollingUpdate", {}).get("maxSurge")
    assert surge == (0 if name == "gpu" else None)


def test_every_program_is_unprivileged_with_a_read_only_root() -> None:
    assert set(PODS) == set(LEDGER_ROLES) - {"fundus-publish"}
    check_privileges(PODS)


def check_privileges(found: dict[str, Any]) -> None:
    for name, pod in found.items():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert f"--uid {spec['securityContext']['runAsUser']} " in (ROOT / "deploy" / "Dockerfile").read_text()
        (container,) = spec["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        reports = [REPORTS] if name in KEEPERS else []
        certificates = [CERTIFICATES] if "fundus/reaches-pacs" in pod["metadata"].get("labels", {}) else []
        mounted = [mount["mountPath"] for mount in container["volumeMounts"]]
        assert sorted(mounted) == sorted(["/tmp", *reports, *certificates])


def test_settings_are_known_and_secrets_are_references(monkeypatch: pytest.MonkeyPatch) -> None:
    assert of_kind("Secret", BASE_OBJECTS) == {}
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    assert set(SETTINGS) <= known
    check_variables(PODS)
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    parse_settings()


def check_variables(found: dict[str, Any]) -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for pod in found.values():
        (container,) = pod["spec"]["containers"]
        for variable in container["env"]:
            assert variable["name"] in known or variable["name"].startswith(("AWS_", "FLOWER_"))
            secret = variable["name"] not in PLAIN
            assert ("secretKeyRef" in variable.get("valueFrom", {})) is secret
            optional = variable["name"] in OPTIONAL
            assert variable.get("valueFrom", {}).get("secretKeyRef", {}).get("optional", False) is optional


def test_each_program_has_only_the_ledger_role_it_needs() -> None:
    check_ledger_roles(PODS)


def check_ledger_roles(found: dict[str, Any]) -> None:
    roles = {
        name: [
            variable["valueFrom"]["secretKeyRef"]["name"]
            for variable in pod["spec"]["containers"][0]["env"]
            if variable["name"] == "FUNDUS_DATABASE_URL"
        ]
        for name, pod in found.items()
    }
    wanted = {name: LEDGER_ROLES[name] for name in found}
    assert roles == {name: [f"fundus-ledger-{role}"] if role else [] for name, role in wanted.items()}
    written = set(re.findall(r"\bfundus_(\w+)", ROLES.read_text()))
    assert {role for role in LEDGER_ROLES.values() if role} - {"owner"} <= written


def test_each_program_has_the_storage_keys_of_its_ledger_role() -> None:
    check_storage_keys(PODS)


def check_storage_keys(found: dict[str, Any]) -> None:
    for name, pod in found.items():
        given = {variable["name"]: variable for variable in pod["spec"]["containers"][0]["env"]}
        for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            if variable in given:
                secret = given[variable]["valueFrom"]["secretKeyRef"]["name"]
                assert secret == f"fundus-storage-{LEDGER_ROLES[name]}", name


def test_only_enqueueing_programs_get_the_patient_key() -> None:
    given = {
        name
        for name, pod in PODS.items()
        for variable in pod["spec"]["containers"][0]["env"]
        if variable["name"] == "FUNDUS_PATIENT_KEY"
    }
    assert given == {"fundus-nightly"}


def test_pacs_is_reached_by_the_programs_that_read_photographs_or_publish(pacs_objects: list[Any]) -> None:
    check_schemas(pacs_objects)
    found = pods(pacs_objects)
    assert set(found) == set(LEDGER_ROLES)
    for check in (check_privileges, check_variables, check_ledger_roles, check_storage_keys):
        check(found)
    signed_in = {
        name: {one["name"] for one in pod["spec"]["containers"][0]["env"]} & SIGN_IN for name, pod in found.items()
    }
    reached = {name for name, pod in found.items() if "fundus/reaches-pacs" in pod["metadata"]["labels"]}
    assert reached == {name for name, given in signed_in.items() if given}
    assert {name for name, given in signed_in.items() if given == SIGN_IN} == {"fundus-publish"}
    assert reached == {"fundus-worker", "fundus-console", "fundus-nightly", "fundus-close-nights", "fundus-publish"}
    volume = {"name": "certificates", "secret": {"secretName": "fundus-certificates", "optional": True}}
    assert {name for name, pod in found.items() if volume in pod["spec"]["volumes"]} == reached
    policy = of_kind("NetworkPolicy", pacs_objects)["pacs"]["spec"]
    assert policy["podSelector"]["matchLabels"] == {"fundus/reaches-pacs": "true"}
    job = of_kind("CronJob", pacs_objects)["fundus-publish"]["spec"]
    settings = parse_settings(publish="sr", dicomweb_url="https://pacs/dicom-web")
    assert crontab.from_string(job["schedule"]) == schedule(settings)["publish"]["schedule"]
    assert (job["concurrencyPolicy"], job["timeZone"]) == ("Forbid", "Etc/UTC")
    (container,) = found["fundus-publish"]["spec"]["containers"]
    # Also with GPUs, it runs on CPUs.
    assert (container["image"], container["args"]) == (f"fundus-worker:{__version__}", ["publish"])


def test_reports_of_nights_are_kept_where_the_settings_say() -> None:
    (claim,) = of_kind("PersistentVolumeClaim", BASE_OBJECTS)
    assert SETTINGS["FUNDUS_REPORTS_DIR"] == REPORTS
    for name in KEEPERS:
        spec = PODS[name]["spec"]
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        assert volumes["reports"]["persistentVolumeClaim"]["claimName"] == claim
        # Otherwise the volume would belong to root.
        assert spec["securityContext"]["fsGroup"] == spec["securityContext"]["runAsGroup"]


def test_schedules_equal_those_of_beat_and_no_job_overlaps_itself() -> None:
    jobs = of_kind("CronJob", BASE_OBJECTS)
    settings = parse_settings(nightly_source="s3://fundus/inbox/", retain_rows_days=1)
    for name, entry in schedule(settings).items():
        assert crontab.from_string(jobs[f"fundus-{name}"]["spec"]["schedule"]) == entry["schedule"]
    for job in jobs.values():
        assert job["spec"]["concurrencyPolicy"] == "Forbid"
        assert job["spec"]["timeZone"] == "Etc/UTC"


def test_image_of_a_pod_can_run_its_command() -> None:
    """The producer's image has no OpenCV, Jinja or SciPy."""
    modules = {command.name: command.module for command in COMMANDS}
    for name, pod in PODS.items():
        (container,) = pod["spec"]["containers"]
        if container["image"] == "fundus-producer":
            assert loaded_by(modules[container["args"][0]]) & (HEAVY | {"jinja2", "scipy"}) == set(), name
    (container,) = PODS["fundus-close-nights"]["spec"]["containers"]
    assert (container["image"], container["args"]) == ("fundus-worker", ["close-nights"])


def test_prometheus_may_reach_the_workers_and_an_ingress_the_console() -> None:
    (worker,) = PODS["fundus-worker"]["spec"]["containers"]
    given = {variable["name"]: variable.get("value") for variable in worker["env"]}
    (port,) = worker["ports"]
    assert (given["FUNDUS_METRICS_HOST"], given["FUNDUS_METRICS_PORT"]) == ("0.0.0.0", str(port["containerPort"]))
    for name in ("fundus-worker", "fundus-exporter"):
        annotations = PODS[name]["metadata"]["annotations"]
        (port,) = PODS[name]["spec"]["containers"][0]["ports"]
        assert annotations == {"prometheus.io/scrape": "true", "prometheus.io/port": str(port["containerPort"])}
        assert allowed_ingress(name) == {"monitoring": {9808, 9809}}
    service = of_kind("Service", BASE_OBJECTS)["fundus-console"]["spec"]
    assert service["selector"].items() <= PODS["fundus-console"]["metadata"]["labels"].items()
    assert allowed_ingress("fundus-console") == {"ingress-nginx": {8080}}
    for name in set(PODS) - {"fundus-worker", "fundus-exporter", "fundus-console"}:
        assert allowed_ingress(name) == {}


def allowed_ingress(pod: str) -> dict[str, set[int]]:
    """Return the ports of a pod that each namespace may reach."""
    found: dict[str, set[int]] = {}
    for policy in of_kind("NetworkPolicy", BASE_OBJECTS).values():
        selector = policy["spec"]["podSelector"]
        names = {selector.get("matchLabels", {}).get("app.kubernetes.io/name")}
        names |= {name for each in selector.get("matchExpressions", ()) for name in each["values"]}
        for rule in policy["spec"].get("ingress", ()) if pod in names else ():
            for source in rule["from"]:
                namespace = source["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
                found.setdefault(namespace, set()).update(port["port"] for port in rule["ports"])
    return found


def test_console_is_probed_at_its_health_check() -> None:
    (console,) = PODS["fundus-console"]["spec"]["containers"]
    assert console["readinessProbe"]["httpGet"]["path"] == HEALTH
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    assert f"EXPOSE {console['ports'][0]['containerPort']}" in dockerfile
    assert "args" not in console, "it has those of the image"


def test_network_allows_each_program_only_the_services_it_has_urls_of() -> None:
    services = {
        "FUNDUS_BROKER_URL": "broker",
        "FUNDUS_DATABASE_URL": "database",
        "AWS_ACCESS_KEY_ID": "storage",
        "FUNDUS_ALARM_URLS": "alarms",
    }
    for name, pod in PODS.items():
        given = {variable["name"] for variable in pod["spec"]["containers"][0]["env"]}
        reached = {label.removeprefix("fundus/reaches-") for label in pod["metadata"]["labels"] if "reaches" in label}
        assert reached == {service for variable, service in services.items() if variable in given}, name
    policies = of_kind("NetworkPolicy", BASE_OBJECTS)
    assert policies["nothing"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for service in services.values():
        assert policies[service]["spec"]["podSelector"]["matchLabels"] == {f"fundus/reaches-{service}": "true"}


def test_worker_has_time_to_finish_a_chunk_and_is_probed_by_its_heartbeat() -> None:
    spec = PODS["fundus-worker"]["spec"]
    assert spec["terminationGracePeriodSeconds"] > SLOWEST_STEP_S
    assert spec["terminationGracePeriodSeconds"] < parse_settings().visibility_timeout_s
    (container,) = spec["containers"]
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["exec"]["command"] == ["fundus", "doctor", "--worker"]
    (budget,) = of_kind("PodDisruptionBudget", BASE_OBJECTS).values()
    labels = PODS["fundus-worker"]["metadata"]["labels"]
    assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()


def triggers() -> dict[str, Any]:
    (scaled,) = of_kind("ScaledObject", BASE_OBJECTS).values()
    assert (scaled["spec"]["minReplicaCount"], scaled["spec"]["scaleTargetRef"]["name"]) == (0, "fundus-worker")
    assert "replicas" not in of_kind("Deployment", BASE_OBJECTS)["fundus-worker"]["spec"]
    return {trigger["name"]: trigger for trigger in scaled["spec"]["triggers"]}


@pytest.mark.parametrize("queue", list(Queue))
def test_scaling_counts_the_waiting_messages(
    queue: Queue, broker_url: str, make_settings: Callable[..., Settings]
) -> None:
    app = make_celery(make_settings(broker_url=broker_url))
    for number in range(3):
        send_chunk(app, GradeChunk(run_id=1, image_ids=(f"eye-{number}",)), queue=queue, run_name="night")
    metadata = triggers()[queue]["metadata"]
    with Redis.from_url(broker_url) as broker:
        assert broker.llen(metadata["listName"]) == 3
    assert int(metadata["listLength"]) > 0


def test_scaling_keeps_one_worker_while_the_ledger_has_queued_images(postgres_url: str) -> None:
    """Even if the broker has lost every message, because a worker sends them again."""
    trigger = triggers()["ledger"]
    secret = {each["metadata"]["name"]: each for each in BASE_OBJECTS}[trigger["authenticationRef"]["name"]]
    assert secret["spec"]["secretTargetRef"][0]["name"] == "fundus-ledger-reader"

    def query_trigger() -> int:
        with psycopg.connect(postgres_url) as connection:
            connection.execute(ROLES.read_text())
            connection.execute("SET ROLE fundus_reader")
            row = connection.execute(trigger["metadata"]["query"]).fetchone()
        assert row is not None
        return int(row[0])

    assert query_trigger() == 0
    engine = create_engine(postgres_url.replace("postgresql://", "postgresql+psycopg://"))
    make_run(engine, "night", references("a", "b", "c"))
    engine.dispose()
    assert query_trigger() == int(trigger["metadata"]["targetQueryValue"]) == 1
