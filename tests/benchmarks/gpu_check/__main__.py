"""Check everything that depends on the device, and write one JSON and one page of tables.

    python -m tests.benchmarks.gpu_check [--out DIR] [--photographs DIR] [--model BUNDLE] [--only PART ...] [--small]

Needs no network. A machine without a GPU measures the same in small sizes. A part that fails does not stop the others;
the exit status is 1 then, and if an engine is not accepted.
"""

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from tests.benchmarks.engine_acceptance import list_candidates, measure_agreements, prepare
from tests.benchmarks.gpu_check.engine_speed import measure_speeds
from tests.benchmarks.gpu_check.fit_speed import measure_fit
from tests.benchmarks.gpu_check.memory_limit import measure_halving
from tests.benchmarks.gpu_check.sizes import DEVICE, SMALL, Sizes
from tests.benchmarks.gpu_check.tables import format_report
from tests.benchmarks.gpu_check.whole_job import open_services, run_job
from tests.benchmarks.photographs import full_size_jpegs
from tests.benchmarks.results import describe_machine
from worker.core.settings import parse_settings
from worker.model.bundle.ensemble import load_model
from worker.model.engines.factory import NVIDIA_DEVICE
from worker.model.network.backend import installed_backends

SAMPLES = Path(__file__).parents[3] / "producer" / "demo" / "samples"


class Check:
    """The model, photographs and sizes of one check, and its parts as methods that return plain JSON types."""

    def __init__(self, model: str, photographs: Path, sizes: Sizes) -> None:
        self._model = load_model(model)
        self._name = model
        self._photographs = photographs
        self._sizes = sizes
        self.parts: dict[str, Callable[[], list[dict[str, Any]]]] = {
            "acceptance": self.measure_acceptance,
            "engines": self.measure_engines,
            "job": self.measure_job,
            "memory": self.measure_memory,
            "fit": self.measure_fits,
        }

    def measure_acceptance(self) -> list[dict[str, Any]]:
        """Compare each engine and precision with float32."""
        paths = sorted(self._photographs.glob("*.jpg"))
        enhanced = list(prepare(list(islice(cycle(paths), self._sizes.photographs)), self._model))
        measured = measure_agreements(list_candidates(self._model), self._model, self._name, enhanced)
        return [one.model_dump() | {"passed": one.passed} for one in measured]

    def measure_engines(self) -> list[dict[str, Any]]:
        """Measure images/s by engine, precision and batch size."""
        candidates = list_candidates(self._model)
        speeds = measure_speeds(self._name, candidates, self._sizes.batches, self._sizes.turn_s)
        return [asdict(speed) | {"share": speed.share} for speed in speeds]

    def measure_job(self) -> list[dict[str, Any]]:
        """Measure the whole job with several processes, and with two commands on one device."""
        settings = {"FUNDUS_MODEL": self._name, "FUNDUS_MAX_BATCH_SIZE": str(self._sizes.batches[-1])}
        with open_services(list(full_size_jpegs(self._sizes.distinct)), settings) as uris:
            jobs = [run_job(uris, self._sizes.images, processes=count) for count in self._sizes.processes]
            jobs.append(run_job(uris, self._sizes.images, workers=2))
        return [asdict(job) | {"host_bound": job.host_bound} for job in jobs]

    def measure_memory(self) -> list[dict[str, Any]]:
        """Let a batch exceed the memory of each engine that has a limit."""
        candidates = [one for one in list_candidates(self._model) if one.name == "jax-f32"]
        batch = self._sizes.memory_batch
        return [
            {"engine": one.name, "batch": batch, **asdict(measure_halving(self._name, one, batch))}
            for one in candidates
        ]

    def measure_fits(self) -> list[dict[str, Any]]:
        """Fit on each backend that can use the device."""
        sizes = self._sizes
        backends = ("jax",) if NVIDIA_DEVICE.exists() else installed_backends()
        fits = (
            measure_fit(one, sizes.fit_backbone, sizes.fit_size_px, sizes.fit_images, sizes.fit_epochs)
            for one in backends
        )
        return [asdict(one) for one in fits]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu-check"))
    parser.add_argument("--photographs", type=Path, default=SAMPLES, help="JPEGs for the acceptance")
    parser.add_argument("--model", default=parse_settings().model)
    parser.add_argument("--only", nargs="+", metavar="PART")
    parser.add_argument("--small", action="store_true", default=not NVIDIA_DEVICE.exists())
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    check = Check(options.model, options.photographs, SMALL if options.small else DEVICE)
    report: dict[str, Any] = {"machine": describe_machine(), "model": options.model, "parts": {}, "failed": {}}
    for name in options.only or check.parts:
        started = time.monotonic()
        try:
            rows = check.parts[name]()
        except Exception as error:  # noqa: BLE001 - the other parts are measured all the same
            report["failed"][name] = f"{type(error).__name__}: {error}"
            traceback.print_exc()
        else:
            report["parts"][name] = {"seconds": round(time.monotonic() - started, 1), "rows": rows}
        (options.out / "gpu-check.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    page = format_report(report)
    (options.out / "gpu-check.md").write_text(page, encoding="utf-8")
    print(page)
    accepted = all(row["passed"] for row in report["parts"].get("acceptance", {"rows": []})["rows"])
    return 0 if accepted and not report["failed"] else 1


if __name__ == "__main__":
    sys.exit(main())
