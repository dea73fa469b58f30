"""The check of a device runs on a machine without one, in small sizes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.worker.model.network.test_backbones import make
from worker.model.bundle.writer import write_bundle

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

pytest.importorskip("jax", reason="the extra `jax` is not installed")


def test_check_measures_all_parts_with_a_small_network(tmp_path: Path) -> None:
    made = make("mobilenetv2")
    write_bundle(tmp_path / "bundle", made.manifest, made.weights)
    out = tmp_path / "out"
    command = ["-m", "tests.benchmarks.gpu_check", "--small", "--model", str(tmp_path / "bundle"), "--out", str(out)]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    report = json.loads((out / "gpu-check.json").read_text())
    assert report["failed"] == {}, done.stderr
    rows = {name: part["rows"] for name, part in report["parts"].items()}
    # OpenVINO does not run this network.
    engines = {("tensorflow", "f32"), ("tensorflow", "bf16"), ("jax", "f32"), ("jax", "bf16")}
    accepted = {(row["engine"], row["precision"]): row["passed"] for row in rows["acceptance"]}
    assert accepted.keys() == engines
    assert accepted["tensorflow", "f32"]
    assert accepted["jax", "f32"]
    assert done.returncode == (0 if all(accepted.values()) else 1)
    speeds = {(row["engine"], row["precision"], row["batch"]): row["explain"] for row in rows["engines"]}
    assert speeds.keys() == {(*engine, batch) for engine in engines for batch in (1, 4)}
    assert min(speeds.values()) > 0
    assert all(row["share"] > 0 for row in rows["engines"])
    assert [(row["workers"], row["processes"]) for row in rows["job"]] == [(1, 1), (1, 2), (2, 1)]
    assert all(row["rate"] > 0 and row["busy"] > 0 and row["decoder_ms"] > 0 for row in rows["job"])
    (halving,) = rows["memory"]
    assert halving["batches"][:2] == [256, 128]
    assert halving["answered"] == 256
    assert [(row["backend"], row["epochs"]) for row in rows["fit"]] == [("tensorflow", 3), ("jax", 3)]
    assert all(row["seconds"] > 0 for row in rows["fit"])
    page = (out / "gpu-check.md").read_text()
    assert all(f"## {name}" in page for name in rows)
    assert "The best job grades" in page
