"""What would be applied to a cluster: accepted by Kubernetes' own schemas, and true to what runs in it."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import psycopg
import pytest
import yaml
from redis import Redis
from sqlalchemy import create_engine

from tests.unit.producer.ledger_rows import make_run, references
from worker import __version__
from worker.contract.messages import GradeChunk
from worker.contract.queues import make_celery, send_chunk
from worker.contract.settings import PREFIX, Settings, parse_settings
from worker.contract.vocabulary import Queue

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
BASE = KUBERNETES / "base"
ROLES = ROOT / "deploy" / "postgres" / "roles.sql"
VERSION = "1.34"
"""Of Kubernetes, whose schemas judge; those of KEDA are its own and not among them."""
SLOWEST_STEP_S = 110
"""See `worker.watchdog`."""
SETTINGS = dict(line.split("=", 1) for line in (BASE / "settings.env").read_text().splitlines())


def load(text: str) -> list[Any]:
    return [document for document in yaml.safe_load_all(text) if document is not None]


def of_kind(kind: str, objects: list[Any]) -> dict[str, Any]:
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}


def pods(objects: list[Any]) -> dict[str, Any]:
    """The pod of each workload, by the workload's name."""
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
    """An overlay's name and all objects that it makes."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("not installed: kubectl")
    built = subprocess.run(
        [kubectl, "kustomize", KUBERNETES / "overlays" / request.param], capture_output=True, text=True, check=False
    )
    assert (built.returncode, built.stderr) == (0, "")
    return request.param, load(built.stdout)


def check_schemas(objects: list[Any]) -> None:
    for each in objects:
        if not each["apiVersion"].startswith("keda.sh/"):
            kubernetes_validate.validate(each, VERSION, strict=True)


def test_base_is_what_kubernetes_accepts() -> None:
    check_schemas(BASE_OBJECTS)
    listed = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(path.name for path in BASE.glob("*.yaml") if path.stem != "kustomization")


def test_a_misspelt_field_would_be_found() -> None:
    deployment = of_kind("Deployment", BASE_OBJECTS)["fundus-worker"]
    wrong = deployment | {"spec": deployment["spec"] | {"replica": 1}}
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        check_schemas([wrong])


def test_overlay_is_what_kubernetes_accepts(overlay: tuple[str, list[Any]]) -> None:
    name, objects = overlay
    check_schemas(objects)
    assert {each["metadata"]["namespace"] for each in objects if each["kind"] != "Namespace"} == {"fundus"}
    images = {container["image"] for pod in pods(objects).values() for container in pod["spec"]["containers"]}
    worker = f"fundus-worker:{__version__}" + ("-gpu" if name == "gpu" else "")
    assert images == {worker, f"fundus-producer:{__version__}", f"fundus-flower:{__version__}"}


def test_overlay_gives_a_worker_what_it_runs_on(overlay: tuple[str, list[Any]]) -> None:
    name, objects = overlay
    deployment = of_kind("Deployment", objects)["fundus-worker"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    gpus = container["resources"]["limits"].get("nvidia.com/gpu")
    assert gpus == ("1" if name == "gpu" else None)
    # A new worker would wait for a GPU that the old one keeps until it is ready.
    surge = deployment["spec"].get("strategy", {}).get("rollingUpdate", {}).get("maxSurge")
    assert surge == (0 if name == "gpu" else None)


def test_every_program_is_an_ordinary_user_that_writes_nowhere() -> None:
    assert set(PODS) == {"fundus-worker", "fundus-migrate", "fundus-nightly", "fundus-exporter", "fundus-flower"}
    for pod in PODS.values():
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
        assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]


def test_settings_are_settings_and_secrets_are_named_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert of_kind("Secret", BASE_OBJECTS) == {}
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    assert set(SETTINGS) <= known
    for pod in PODS.values():
        (container,) = pod["spec"]["containers"]
        for variable in container["env"]:
            assert variable["name"] in known or variable["name"].startswith(("AWS_", "FLOWER_"))
            secret = not variable["name"].endswith("READ_ONLY")
            assert ("secretKeyRef" in variable.get("valueFrom", {})) is secret
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    parse_settings()


def test_each_program_has_the_ledger_role_that_it_needs_and_no_other() -> None:
    roles = {
        name: [
            variable["valueFrom"]["secretKeyRef"]["name"]
            for variable in pod["spec"]["containers"][0]["env"]
            if variable["name"] == "FUNDUS_DATABASE_URL"
        ]
        for name, pod in PODS.items()
    }
    assert roles == {
        "fundus-migrate": ["fundus-ledger-owner"],
        "fundus-worker": ["fundus-ledger-worker"],
        "fundus-nightly": ["fundus-ledger-producer"],
        "fundus-exporter": ["fundus-ledger-reader"],
        "fundus-flower": [],
    }


def test_network_lets_a_program_reach_what_it_has_an_address_of_and_no_more() -> None:
    services = {"FUNDUS_BROKER_URL": "broker", "FUNDUS_DATABASE_URL": "database", "AWS_ACCESS_KEY_ID": "storage"}
    for name, pod in PODS.items():
        given = {variable["name"] for variable in pod["spec"]["containers"][0]["env"]}
        reached = {label.removeprefix("fundus/reaches-") for label in pod["metadata"]["labels"] if "reaches" in label}
        assert reached == {service for variable, service in services.items() if variable in given}, name
    policies = of_kind("NetworkPolicy", BASE_OBJECTS)
    assert policies["nothing"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for service in services.values():
        assert policies[service]["spec"]["podSelector"]["matchLabels"] == {f"fundus/reaches-{service}": "true"}


def test_worker_has_time_to_finish_a_chunk_and_is_judged_by_its_heartbeat() -> None:
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
def test_scaling_counts_the_list_that_messages_wait_on(
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
    """Also when the broker has lost every message: it is a worker that sends them again."""
    trigger = triggers()["ledger"]
    secret = {each["metadata"]["name"]: each for each in BASE_OBJECTS}[trigger["authenticationRef"]["name"]]
    assert secret["spec"]["secretTargetRef"][0]["name"] == "fundus-ledger-reader"

    def asked() -> int:
        with psycopg.connect(postgres_url) as connection:
            connection.execute(ROLES.read_text())
            connection.execute("SET ROLE fundus_reader")
            row = connection.execute(trigger["metadata"]["query"]).fetchone()
        assert row is not None
        return int(row[0])

    assert asked() == 0
    engine = create_engine(postgres_url.replace("postgresql://", "postgresql+psycopg://"))
    make_run(engine, "night", references("a", "b", "c"))
    engine.dispose()
    assert asked() == int(trigger["metadata"]["targetQueryValue"]) == 1
