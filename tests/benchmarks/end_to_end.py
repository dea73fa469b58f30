"""End-to-end throughput: full-size JPEGs in S3 to overlays in S3 and rows in PostgreSQL; the worker and its peers.

    python -m tests.benchmarks.end_to_end [--images N] [--rounds N] [--no-peers] [--title TEXT]

Rounds of all systems are interleaved. Ray comes last, with extra rounds of the worker: its processes use the machine
even when idle, and do not survive being paused. The upper bound is the number of cores divided by the CPU time of all
stages of one image, called in sequence, including that of the servers. It is measured twice, on an otherwise idle
machine and with all cores busy as in a run, where cores share caches, memory bandwidth and power. Upper bound over a
peer's throughput is the largest ratio that is possible without cheaper stages.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec

import psycopg

from tests.benchmarks.cpu_time import cpu_time_by_process, machine_cpu_time_s, server_pids
from tests.benchmarks.engine_process import versions_of
from tests.benchmarks.peers.services import TABLE
from tests.benchmarks.results import as_table, describe_machine, format_range, write_section
from tests.benchmarks.systems import GradeRound, celery_system, fundus_system, ray_system
from tests.benchmarks.testbed import open_testbed
from worker.core.settings import parse_settings
from worker.core.uris import parse_s3_uri
from worker.imaging.sandbox.child_process import MALLOC_ENVIRONMENT

CORES = os.cpu_count() or 1
STAGE_IMAGES = 64
IMAGE_SHARES = {
    "fundus": 1.0,
    "celery_batched": 0.2,
    "celery_notebook": 0.04,
    "fundus, Ray running": 1.0,
    "ray_data": 0.12,
}
"""Images of a round as a share of --images, so that rounds of all systems take about the same time."""
TARGETS = {"celery_notebook": ">= 25", "celery_batched": "", "ray_data": ">= 1.5"}
PACKAGES = ("celery", "openvino", "opencv-python-headless", "tensorflow-cpu", "ray", "numpy")


@dataclass(frozen=True)
class RoundResult:
    """One round. other_cpu_share: share of the machine's CPU time used by processes outside this benchmark."""

    images_per_s: float
    other_cpu_share: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=960)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--title", default="End-to-end throughput")
    options = parser.parse_args()
    with ExitStack() as cleanup:
        testbed = cleanup.enter_context(open_testbed())
        uris = testbed.upload_photographs(options.images)
        keys = [parse_s3_uri(uri)[1] for uri in uris]
        configure_peers(testbed.bucket)
        counts = {name: max(CORES, round(options.images * share)) for name, share in IMAGE_SHARES.items()}
        rounds: dict[str, list[RoundResult]] = defaultdict(list)
        costs = []

        def warm_up(name: str, grade: GradeRound) -> GradeRound:
            print(f"{name}: warm after {grade(max(CORES, counts[name] // 4)):.1f} s", flush=True)
            return grade

        def run_round(systems: dict[str, GradeRound]) -> None:
            for name, grade in systems.items():
                rounds[name].append(measure_round(grade, counts[name]))
                print(name, rounds[name][-1], flush=True)

        fundus = warm_up("fundus", cleanup.enter_context(fundus_system(uris, testbed.scratch / "fundus.log")))
        systems = {"fundus": fundus}
        if not options.no_peers:
            for name in ("celery_batched", "celery_notebook"):
                peer = cleanup.enter_context(celery_system(name, keys, testbed.scratch / f"{name}.log"))
                systems[name] = warm_up(name, peer)
        for _ in range(options.rounds):
            costs.append(measure_stages(uris[:STAGE_IMAGES]))
            run_round(systems)
        if not options.no_peers and find_spec("ray"):
            peer = warm_up("ray_data", cleanup.enter_context(ray_system(keys, testbed.scratch / "ray.log")))
            for _ in range(options.rounds):
                run_round({"fundus, Ray running": fundus, "ray_data": peer})
        print(report(options.title, costs, rounds, counts))


def configure_peers(bucket: str) -> None:
    """Set the environment variables of the peers, which use the same servers, and create their table."""
    settings = parse_settings()
    os.environ |= {
        "BENCH_DATABASE": settings.database_url.get_secret_value(),
        "BENCH_BROKER": settings.broker_url.get_secret_value(),
        "BENCH_S3": os.environ["FUNDUS_S3_ENDPOINT_URL"],
        "BENCH_BUCKET": bucket,
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    with psycopg.connect(os.environ["BENCH_DATABASE"]) as connection:
        connection.execute(TABLE)


def measure_round(grade: GradeRound, count: int) -> RoundResult:
    """Run one round and measure the CPU time of processes outside this benchmark."""
    root = [os.getpid()]
    started, busy_s, before = time.perf_counter(), machine_cpu_time_s(), cpu_time_by_process(root)
    seconds = grade(count)
    wall_s = time.perf_counter() - started
    # Per process: when a process of Ray ends, its earlier CPU time disappears from the sum.
    own_s = sum(used - before.get(pid, 0.0) for pid, used in cpu_time_by_process(root).items())
    others_s = machine_cpu_time_s() - busy_s - own_s
    return RoundResult(count / seconds, max(0.0, others_s) / (wall_s * CORES))


def measure_stages(uris: list[str]) -> dict[str, dict[str, float]]:
    """Measure CPU seconds per image by stage.

    Returns "idle_s" and "loaded_s", those of the worker on an idle machine and with all cores busy, and "servers_s".
    """
    (idle,) = _run_stages(uris, 1)
    loaded = _run_stages(uris, CORES)
    stages = idle["worker_s"]
    return {
        "idle_s": stages,
        "loaded_s": {stage: sum(one["worker_s"][stage] for one in loaded) / CORES for stage in stages},
        "servers_s": idle["servers_s"],
    }


def _run_stages(uris: list[str], processes: int) -> list[dict[str, dict[str, float]]]:
    program = [sys.executable, "-m", "tests.benchmarks.stage_cpu_time", *map(str, server_pids())]
    environment = os.environ | MALLOC_ENVIRONMENT
    children = [
        subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(processes)
    ]
    with ThreadPoolExecutor(processes) as threads:
        outputs = list(threads.map(lambda child: child.communicate("\n".join(uris))[0], children))
    assert not any(child.returncode for child in children)
    return [json.loads(output.splitlines()[-1]) for output in outputs]


def report(
    title: str, costs: list[dict[str, dict[str, float]]], rounds: dict[str, list[RoundResult]], counts: dict[str, int]
) -> str:
    """Format the tables and write them to RESULTS.md."""
    bounds, idle_bounds = (
        [CORES / (sum(cost[part].values()) + sum(cost["servers_s"].values())) for cost in costs]
        for part in ("loaded_s", "idle_s")
    )
    body = "\n\n".join(
        [
            f"## {title}",
            f"Photographs of 4288 x 2848 in S3 to overlays in S3 and rows in PostgreSQL, {len(costs)} interleaved "
            "rounds; median (minimum to maximum). The upper bound is the number of cores divided by the CPU time of "
            "all stages of one image, called in sequence, including that of the servers in the stages that call them: "
            f"{format_range(idle_bounds)} images/s with stages measured on an idle machine, "
            f"{format_range(bounds)} images/s with all cores busy, as in a run, where cores share caches, memory "
            "bandwidth and power.",
            f"Command: `python -m tests.benchmarks.end_to_end`. Machine: {describe_machine()}.\n"
            f"Versions: {versions_of(PACKAGES)}.",
            as_table(
                ("stage, ms of CPU time per image", "worker, idle machine", "worker, all cores busy", "servers"),
                stage_rows(costs),
            ),
            as_table(
                ("system", "images per round", "images/s", "CPU time of other processes, %"),
                [
                    (
                        name,
                        str(counts[name]),
                        format_range([one.images_per_s for one in several]),
                        format_range([100 * one.other_cpu_share for one in several], 0),
                    )
                    for name, several in rounds.items()
                ],
            ),
            as_table(("throughput of fundus over", "ratio", "target"), ratio_rows(idle_bounds, bounds, rounds)),
        ]
    )
    write_section(title.lower(), body)
    return body


def stage_rows(costs: list[dict[str, dict[str, float]]]) -> list[tuple[str, ...]]:
    """Rows of the stages and their total, in milliseconds."""
    parts = ("idle_s", "loaded_s", "servers_s")
    stages = [
        (stage, *(format_range([1000 * cost[part][stage] for cost in costs], 1) for part in parts))
        for stage in costs[0]["loaded_s"]
    ]
    return [
        *stages,
        ("total", *(format_range([1000 * sum(cost[part].values()) for cost in costs], 1) for part in parts)),
    ]


def ratio_rows(
    idle_bounds: list[float], bounds: list[float], rounds: dict[str, list[RoundResult]]
) -> list[tuple[str, ...]]:
    """Rows of ratios, each computed within a round."""
    fundus = rounds["fundus"]

    def ratio_to(several: list[float]) -> str:
        return format_range([one.images_per_s / bound for one, bound in zip(fundus, several, strict=True)])

    rows = [
        ("upper bound, idle machine", ratio_to(idle_bounds), ">= 0.85"),
        ("upper bound, all cores busy", ratio_to(bounds), ">= 0.85"),
    ]
    for name, target in TARGETS.items():
        if name in rounds:
            paired = rounds["fundus, Ray running"] if name == "ray_data" else fundus
            ratios = [one.images_per_s / peer.images_per_s for one, peer in zip(paired, rounds[name], strict=True)]
            rows.append((name, format_range(ratios, 1), target))
            possible = [bound / peer.images_per_s for bound, peer in zip(bounds, rounds[name], strict=True)]
            rows.append((f"{name}, if fundus reached that bound", format_range(possible, 1), ""))
    return rows


if __name__ == "__main__":
    main()
