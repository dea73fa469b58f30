"""The runbook names existing commands, options, secrets, alerts and files."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from deploy.write_env import write_env
from producer.cli import app
from tests.deploy.compose import ROOT, read_project
from tests.deploy.test_kubernetes import BASE_OBJECTS, SETTINGS, load, of_kind, pods

DEPLOY = ROOT / "deploy"
TEXT = (ROOT / "docs" / "runbook.md").read_text()


def rows(section: str) -> dict[str, list[str]]:
    """Return the rows of a section's table, by the code in the first cell."""
    (body,) = re.findall(rf"(?ms)^## {section}\n(.*?)(?=^## |\Z)", TEXT)
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"(?m)^\|.*\|$", body)]
    return {name.strip("`"): rest for name, *rest in cells[2:]}


def block(mark: str) -> str:
    """Return the YAML block that starts with this comment."""
    (found,) = re.findall(rf"(?ms)^```yaml\n(# {re.escape(mark)}\n.*?)^```$", TEXT)
    return str(found)


def references(value: Any) -> set[tuple[str, str]]:
    """Return every (secret, key) that the objects reference."""
    if isinstance(value, list):
        return set().union(*(references(each) for each in value))
    if not isinstance(value, dict):
        return set()
    found = set().union(*(references(each) for each in value.values()))
    for place in (value.get("secretKeyRef"), *(value.get("secretTargetRef") or ())):
        if place:
            found.add((place["name"], place["key"]))
    return found


def test_exactly_the_existing_alerts_are_explained() -> None:
    groups = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    assert set(rows("Alarms")) == {rule["alert"] for group in groups for rule in group["rules"]}


def test_every_secret_of_kubernetes_is_named_with_its_keys() -> None:
    named = {
        (secret, key)
        for secret, (keys, _) in rows("Install on Kubernetes").items()
        for key in re.findall(r"`(\S+?)`", keys)
    }
    published = "".join(path.read_text() for path in (DEPLOY / "kubernetes" / "components" / "pacs").glob("*.yaml"))
    of_pacs = set(re.findall(r"secretKeyRef: \{name: ([\w-]+), key: ([\w-]+)", published))
    assert named == references(BASE_OBJECTS) | of_pacs


def test_overlay_of_a_site_is_valid(tmp_path: Path) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("not installed: kubectl")
    (tmp_path / "fundus-grading").symlink_to(ROOT)
    (tmp_path / "kustomization.yaml").write_text(block("kustomization.yaml"))
    built = subprocess.run([kubectl, "kustomize", tmp_path], capture_output=True, text=True, check=False)
    assert (built.returncode, built.stderr) == (0, "")
    objects = load(built.stdout)
    (settings,) = of_kind("ConfigMap", objects).values()
    assert settings["data"] == SETTINGS | {
        "FUNDUS_S3_ENDPOINT_URL": "https://s3.clinic.example",
        "FUNDUS_STORAGE_URL": "s3://clinic/overlays",
        "FUNDUS_SOURCE_ROOTS": "s3://clinic",
        "FUNDUS_NIGHTLY_SOURCE": "s3://clinic/inbox/",
        "FUNDUS_CONSOLE_URL": "https://grading.clinic.example",
    }
    images = {container["image"] for pod in pods(objects).values() for container in pod["spec"]["containers"]}
    assert {image.rpartition("/")[0] for image in images} == {"registry.clinic.example"}


def test_service_of_a_second_gpu_is_valid(tmp_path: Path) -> None:
    write_env(tmp_path / ".env")
    override = tmp_path / "override.yml"
    override.write_text(
        block("docker-compose.override.yml").replace("docker-compose.yml", f"{ROOT}/docker-compose.yml")
    )
    project = read_project(tmp_path / ".env", ROOT / "docker-compose.yml", override)
    first, second = (project["services"][name] for name in ("worker-gpu", "worker-gpu-1"))
    assert second["environment"] == first["environment"] | {"CUDA_VISIBLE_DEVICES": "1"}
    assert second == first | {"environment": second["environment"]}


COMMAND = r"(?<!namespace )(?<!/)\bfundus ((?:(?:console|db|model) )?[a-z][a-z-]*)(?=[ `\n])"


@pytest.mark.parametrize("command", sorted(set(re.findall(COMMAND, TEXT))))
def test_every_command_and_option_exists(command: str) -> None:
    options = {
        option
        for line in re.findall(rf"(?<!namespace )(?<!/)\bfundus {command}\b([^`|\n]*)", TEXT)
        for option in re.findall(r"(--[a-z-]+)", line)
    }
    shown = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    assert {option for option in options if option not in shown.output} == set()


def test_named_files_exist() -> None:
    for name in re.findall(r"\bdeploy/[\w./@-]+\w", TEXT):
        if not name.startswith("deploy/kubernetes/overlays"):
            assert (ROOT / name).exists(), name
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / "docs" / target).exists(), target
