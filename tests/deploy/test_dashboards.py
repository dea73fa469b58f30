"""Dashboards query metrics that the exporter has, from the provisioned data source."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from producer.exporter.disk_metrics import DiskCollector
from producer.exporter.ledger_metrics import LedgerCollector
from tests.unit.producer.ledger_rows import add_model, fail, grade, make_run, references

GRAFANA = Path(__file__).parents[2] / "deploy" / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
PROMETHEUS_OWN = {"up", "ALERTS"}
COLUMNS = 24


def load(path: Path) -> Any:
    return json.loads(path.read_text())


def expressions(dashboard: Any) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, set[str]]]:
    """Label values by metric and label, scraped from a ledger with graded and failed images."""
    from worker.core.settings import parse_settings
    from worker.ledger.database import connect
    from worker.ledger.migrate import upgrade

    engine = connect(parse_settings(database_url=f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'ledger.db'}"))
    upgrade(engine)
    add_model(engine)
    run = make_run(engine, "night", references("a", "b", "c"))
    grade(engine, run, "a", 2)
    fail(engine, run, "b", "image_missing")
    registry = CollectorRegistry()
    registry.register(LedgerCollector(engine, lambda _: 1, on_error=print))
    registry.register(DiskCollector({"machine": Path("/")}, on_error=print))
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    engine.dispose()
    return found


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_metric_and_label_is_exported(path: Path, exported: dict[str, dict[str, set[str]]]) -> None:
    queries = expressions(load(path))
    assert queries
    for expression in queries:
        for name, matchers in re.findall(r"\b(fundus_\w+|up|ALERTS)\b(?:\{([^}]*)\})?", expression):
            if name in PROMETHEUS_OWN:
                continue
            assert name in exported, f"{expression}: no such metric"
            for label, operator, value in re.findall(r'(\w+)(=~|=|!=)"([^"]*)"', matchers):
                assert label in exported[name], f"{expression}: {name} has no label {label}"
                pattern = value if operator == "=~" else re.escape(value)
                assert any(re.fullmatch(pattern, known) for known in exported[name][label]), (
                    f"{expression}: never {value}"
                )
        for labels in re.findall(r"by \(([^)]*)\)", expression):
            (name,) = re.findall(r"\b(fundus_\w+|ALERTS)\b", expression)
            assert name in PROMETHEUS_OWN or set(labels.split(", ")) <= set(exported[name])


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_panel_uses_the_provisioned_source(path: Path) -> None:
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    for panel in load(path)["panels"]:
        for place in (panel, *panel["targets"]):
            assert place["datasource"] == {"type": source["type"], "uid": source["uid"]}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_do_not_overlap_and_have_descriptions(path: Path) -> None:
    panels = load(path)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    for place in places:
        assert place["x"] + place["w"] <= COLUMNS
    for one, other in combinations(places, 2):
        side_by_side = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert side_by_side or below, (one, other)
    assert all(panel["title"] and panel["description"] for panel in panels)


def test_dashboards_have_distinct_names() -> None:
    loaded = [load(path) for path in DASHBOARDS]
    assert len({dashboard["uid"] for dashboard in loaded}) == len({d["title"] for d in loaded}) == len(loaded) == 2
