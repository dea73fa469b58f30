"""The cores and the memory of a process inside real cgroups."""

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from tests.services.cgroups import cgroup, run_in
from worker.core.machine import find_memory_excess, usable_cores

PERIOD_US = 100_000
GIB = 2**30
BOTH = pytest.mark.parametrize("version", [1, 2])

SETTINGS = """
import json
from worker.core.cgroup import read_cpu_quota, read_memory_limit
from worker.core.machine import find_memory_excess, usable_cores
from worker.core.settings import parse_settings
settings = parse_settings()
print(json.dumps({
    "cores": usable_cores(), "quota": read_cpu_quota(), "memory": read_memory_limit(),
    "decoders": settings.decode_processes,
    "excess": find_memory_excess(settings.decode_processes, settings.decode_memory_mb),
}))
"""
OPENVINO = """
import numpy as np, openvino
from openvino import opset13 as ops
from worker.model.engines.openvino_executor import OpenVinoExecutor
images = ops.parameter([-1, 8, 8, 3], np.float32, name="images")
graph = openvino.Model([ops.relu(images)], [images])
executor = OpenVinoExecutor(graph, 8, "f32")
compiled = openvino.Core().compile_model(graph, "CPU", executor._options)
print(compiled.get_property("INFERENCE_NUM_THREADS"))
"""
TENSORFLOW = """
import tensorflow as tf
from worker.model.engines.device_options import DeviceOptions
from worker.model.engines.tensorflow_engine import _claim_device
_claim_device(DeviceOptions())
tf.constant(1.0)
print(tf.config.threading.get_intra_op_parallelism_threads())
"""


def quota(version: int, cores: float) -> dict[str, str]:
    time_us = round(cores * PERIOD_US)
    if version == 2:
        return {"cpu.max": f"{time_us} {PERIOD_US}"}
    return {"cpu.cfs_period_us": str(PERIOD_US), "cpu.cfs_quota_us": str(time_us)}


def memory(version: int, limit: int) -> dict[str, str]:
    return {"memory.max" if version == 2 else "memory.limit_in_bytes": str(limit)}


def python(program: str, *, cpus: int | None = None) -> list[str]:
    """Return the command of a program, limited to the first CPUs."""
    start = [] if cpus is None else ["taskset", "--cpu-list", f"0-{cpus - 1}"]
    return [*start, sys.executable, "-c", program]


def seen(controller: str, *levels: Mapping[str, str], cpus: int | None = None, **settings: str) -> dict[str, Any]:
    env = {"PATH": os.environ["PATH"], **{f"FUNDUS_{name.upper()}": value for name, value in settings.items()}}
    with cgroup(controller, *levels) as folder:
        found: dict[str, Any] = json.loads(run_in(folder, python(SETTINGS, cpus=cpus), env))
    return found


@BOTH
def test_quota_limits_cores_and_decoders(version: int) -> None:
    found = seen("cpu", quota(version, 1))
    assert (found["quota"], found["cores"], found["decoders"]) == (1.0, 1, 1)


@BOTH
def test_quota_of_a_parent_limits_too(version: int) -> None:
    found = seen("cpu", quota(version, 0.5), {})
    assert (found["quota"], found["cores"]) == (0.5, 1)


@BOTH
def test_part_of_a_core_counts_as_one(version: int) -> None:
    if usable_cores() < 2:
        pytest.skip("needs 2 cores")
    found = seen("cpu", quota(version, 1.5))
    assert (found["quota"], found["cores"]) == (1.5, 2)


@BOTH
def test_affinity_limits_below_a_larger_quota(version: int) -> None:
    found = seen("cpu", quota(version, 64), cpus=1)
    assert (found["quota"], found["cores"], found["decoders"]) == (64.0, 1, 1)


@BOTH
def test_decoders_fit_the_memory_limit_unless_they_are_set(version: int) -> None:
    limit = memory(version, GIB)
    found = seen("memory", limit, decode_memory_mb="1024")
    assert (found["memory"], found["decoders"], found["excess"]) == (GIB, 1, None)
    found = seen("memory", limit, decode_memory_mb="1024", decode_processes="4")
    assert found["excess"] == (
        "4 decoding processes of 1024 MiB may use 4096 MiB, and this container's limit is 1024 MiB"
    )


@pytest.mark.parametrize("program", [OPENVINO, TENSORFLOW], ids=["openvino", "tensorflow"])
@BOTH
def test_engines_use_the_cores_of_the_quota(version: int, program: str) -> None:
    env = {"PATH": os.environ["PATH"], "TF_CPP_MIN_LOG_LEVEL": "3"}
    with cgroup("cpu", quota(version, 1)) as folder:
        assert run_in(folder, python(program), env).strip() == "1"


def test_no_limit_is_no_excess() -> None:
    assert find_memory_excess(1, 256) is None
