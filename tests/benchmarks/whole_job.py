"""The whole job, full-size JPEGs in S3 to overlays in S3 and rows in PostgreSQL: ours, its bound, and its peers.

    python -m tests.benchmarks.whole_job [--images N] [--rounds N] [--no-peers] [--title TEXT]

Rounds are interleaved. Ray comes last, with rounds of ours beside it: its processes take of the machine while they
wait, and suffer where they are stopped. The bound is the processor time that the stages of one image cost when they are
called one after the other, the servers' share included, divided by the cores. It is taken twice: with the rest of the
machine idle, and with every core at it, as in the job: cores share caches, memory and power, and the same work costs
more there. Over a peer's rate it is the most that ours could be ahead of it without cheaper stages.
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

from tests.benchmarks.contender import versions_of
from tests.benchmarks.contenders import Round, celery_peer, our_worker, ray_peer
from tests.benchmarks.peers.services import TABLE
from tests.benchmarks.processor_time import machine_busy_s, server_pids, used_by
from tests.benchmarks.results import as_table, describe_machine, write_section
from tests.benchmarks.site import open_site
from tests.benchmarks.spread import spread
from worker.core.settings import parse_settings
from worker.core.uris import parse_s3_uri
from worker.imaging.sandbox.child_process import MALLOC_ENVIRONMENT

CORES = os.cpu_count() or 1
COSTED_IMAGES = 64
SHARES = {"ours": 1.0, "celery_batched": 0.2, "celery_notebook": 0.04, "ours beside ray_data": 1.0, "ray_data": 0.12}
"""Of the images of a round: the slow get fewer, so that a round of each takes about as long."""
TARGETS = {"celery_notebook": ">= 25", "celery_batched": "", "ray_data": ">= 1.5"}
PACKAGES = ("celery", "openvino", "opencv-python-headless", "tensorflow-cpu", "ray", "numpy")


@dataclass(frozen=True)
class Timed:
    """One round: images per second, and of the machine's processor time the share that neither it nor a server had."""

    rate: float
    elsewhere: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=960)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--title", default="Whole job")
    options = parser.parse_args()
    with ExitStack() as cleanup:
        site = cleanup.enter_context(open_site())
        uris = site.upload_photographs(options.images)
        keys = [parse_s3_uri(uri)[1] for uri in uris]
        arrange_peers(site.bucket)
        counts = {name: max(CORES, round(options.images * share)) for name, share in SHARES.items()}
        rounds: dict[str, list[Timed]] = defaultdict(list)
        costs = []

        def warm(name: str, work: Round) -> Round:
            print(f"{name}: warm after {work(max(CORES, counts[name] // 4)):.1f} s", flush=True)
            return work

        def have_turns(contenders: dict[str, Round]) -> None:
            for name, work in contenders.items():
                rounds[name].append(timed(work, counts[name]))
                print(name, rounds[name][-1], flush=True)

        ours = warm("ours", cleanup.enter_context(our_worker(uris, site.scratch / "ours.log")))
        contenders = {"ours": ours}
        if not options.no_peers:
            for name in ("celery_batched", "celery_notebook"):
                peer = cleanup.enter_context(celery_peer(name, keys, site.scratch / f"{name}.log"))
                contenders[name] = warm(name, peer)
        for _ in range(options.rounds):
            costs.append(stage_costs(uris[:COSTED_IMAGES]))
            have_turns(contenders)
        if not options.no_peers and find_spec("ray"):
            peer = warm("ray_data", cleanup.enter_context(ray_peer(keys, site.scratch / "ray.log")))
            for _ in range(options.rounds):
                have_turns({"ours beside ray_data": ours, "ray_data": peer})
        print(report(options.title, costs, rounds, counts))


def arrange_peers(bucket: str) -> None:
    """The same servers for the peers, with a table of their own."""
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


def timed(work: Round, count: int) -> Timed:
    """One round, and how busy processes that are none of this benchmark kept the machine meanwhile."""
    ours = [os.getpid()]
    began, busy_s, before = time.perf_counter(), machine_busy_s(), used_by(ours)
    seconds = work(count)
    wall_s = time.perf_counter() - began
    # One by one: a process of Ray that ends takes what it had used before along.
    own_s = sum(used - before.get(pid, 0.0) for pid, used in used_by(ours).items())
    others_s = machine_busy_s() - busy_s - own_s
    return Timed(count / seconds, max(0.0, others_s) / (wall_s * CORES))


def stage_costs(uris: list[str]) -> dict[str, dict[str, float]]:
    """Seconds of processor time per image by stage: `alone_s` and `worker_s` of the worker on an idle machine and with
    every core at it, `servers_s` of the servers."""
    (alone,) = _run_stages(uris, 1)
    crowded = _run_stages(uris, CORES)
    stages = alone["worker_s"]
    return {
        "alone_s": stages,
        "worker_s": {stage: sum(one["worker_s"][stage] for one in crowded) / CORES for stage in stages},
        "servers_s": alone["servers_s"],
    }


def _run_stages(uris: list[str], times: int) -> list[dict[str, dict[str, float]]]:
    """So many at once."""
    program = [sys.executable, "-m", "tests.benchmarks.stage_costs", *map(str, server_pids())]
    environment = os.environ | MALLOC_ENVIRONMENT
    children = [
        subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(times)
    ]
    with ThreadPoolExecutor(times) as threads:
        answers = list(threads.map(lambda child: child.communicate("\n".join(uris))[0], children))
    assert not any(child.returncode for child in children)
    return [json.loads(answer.splitlines()[-1]) for answer in answers]


def report(
    title: str, costs: list[dict[str, dict[str, float]]], rounds: dict[str, list[Timed]], counts: dict[str, int]
) -> str:
    """The tables, which are written to RESULTS.md as well."""
    bounds, idle_bounds = (
        [CORES / (sum(cost[part].values()) + sum(cost["servers_s"].values())) for cost in costs]
        for part in ("worker_s", "alone_s")
    )
    body = "\n\n".join(
        [
            f"## {title}",
            f"Photographs of 4288 x 2848 in S3 to overlays in S3 and rows in PostgreSQL, {len(costs)} interleaved "
            "rounds; median, least and greatest. The bound is the processor time of all stages, called one after the "
            "other, that of the servers included while a stage talks to them, over the cores: "
            f"{spread(idle_bounds)} images/s of stages on an idle machine, {spread(bounds)} of stages with every core "
            "at them, as in the job: cores share caches, memory and power.",
            f"Command: `python -m tests.benchmarks.whole_job`. Machine: {describe_machine()}.\n"
            f"Versions: {versions_of(PACKAGES)}.",
            as_table(
                ("stage, ms of processor time per image", "worker, idle machine", "worker, every core", "servers"),
                cost_rows(costs),
            ),
            as_table(
                ("", "images a round", "images/s", "processor time taken by strangers, %"),
                [
                    (
                        name,
                        str(counts[name]),
                        spread([one.rate for one in several]),
                        spread([100 * one.elsewhere for one in several], 0),
                    )
                    for name, several in rounds.items()
                ],
            ),
            as_table(("ours against", "ratio", "target"), ratio_rows(idle_bounds, bounds, rounds)),
        ]
    )
    write_section(title.lower(), body)
    return body


def cost_rows(costs: list[dict[str, dict[str, float]]]) -> list[tuple[str, ...]]:
    """Stages and their sum, in milliseconds."""
    parts = ("alone_s", "worker_s", "servers_s")
    stages = [
        (stage, *(spread([1000 * cost[part][stage] for cost in costs], 1) for part in parts))
        for stage in costs[0]["worker_s"]
    ]
    return [*stages, ("all", *(spread([1000 * sum(cost[part].values()) for cost in costs], 1) for part in parts))]


def ratio_rows(idle_bounds: list[float], bounds: list[float], rounds: dict[str, list[Timed]]) -> list[tuple[str, ...]]:
    """Within a round each."""
    ours = rounds["ours"]

    def against(several: list[float]) -> str:
        return spread([one.rate / bound for one, bound in zip(ours, several, strict=True)])

    rows = [
        ("the bound of stages on an idle machine", against(idle_bounds), ">= 0.85"),
        ("the bound of stages with every core at them", against(bounds), ">= 0.85"),
    ]
    for name, target in TARGETS.items():
        if name in rounds:
            beside = rounds.get(f"ours beside {name}", ours)
            ratios = [one.rate / theirs.rate for one, theirs in zip(beside, rounds[name], strict=True)]
            rows.append((name, spread(ratios, 1), target))
            most = [bound / theirs.rate for bound, theirs in zip(bounds, rounds[name], strict=True)]
            rows.append((f"{name}, were ours at that bound", spread(most, 1), ""))
    return rows


if __name__ == "__main__":
    main()
