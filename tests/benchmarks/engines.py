"""Throughput of the engines and their peers on the same images and cores.

    python -m tests.benchmarks.engines [FOLDER] [--rounds N] [--turn-s S] [--only NAME ...]

Each engine runs in a separate process and is warm. In each round all engines run for about the same time, in random
order; ratios are computed within a round, so that drifts in machine speed cancel out. Prints two tables; a run of all
engines also writes them, with a plot, to RESULTS.md.
"""

import argparse
import itertools
import random
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.engine_process import EngineProcess, EngineSpec, versions_of
from tests.benchmarks.engines_report import Results, RoundResult, format_rates, format_ratios, plot_rates
from tests.benchmarks.model import MODEL
from tests.benchmarks.results import describe_machine, write_section
from worker.core.errors import ImageError, Ungradable
from worker.imaging.headers.header import ImageLimits
from worker.imaging.steps.prepare import prepare_image
from worker.model.bundle.bundle import load_bundle

BATCH = 16
SAMPLES = Path(__file__).parents[2] / "producer" / "demo" / "samples"
PLOT = Path(__file__).with_name("engines.png")
TENSORFLOW = ("tensorflow-cpu", "keras")
JAX = ("jax", "keras")

ENGINES = (
    EngineSpec(
        "fundus, OpenVINO", "tests.benchmarks.fundus_engines:load_openvino", explains=True, packages=("openvino",)
    ),
    EngineSpec(
        "fundus, OpenVINO int8",
        "tests.benchmarks.fundus_engines:load_openvino_int8",
        explains=True,
        packages=("openvino",),
    ),
    EngineSpec(
        "fundus, TensorFlow", "tests.benchmarks.fundus_engines:load_tensorflow", explains=True, packages=TENSORFLOW
    ),
    EngineSpec("fundus, JAX", "tests.benchmarks.fundus_engines:load_jax", explains=True, packages=JAX),
    EngineSpec("raw OpenVINO", "tests.benchmarks.peers.raw_openvino:load", explains=False, packages=("openvino",)),
    EngineSpec("TensorFlow", "tests.benchmarks.peers.tensorflow_forward:load", explains=False, packages=TENSORFLOW),
    EngineSpec("JAX", "tests.benchmarks.peers.jax_forward:load", explains=False, packages=JAX),
    EngineSpec(
        "ONNX Runtime", "tests.benchmarks.peers.onnx_runtime:load", explains=True, packages=("onnxruntime", "tf2onnx")
    ),
    EngineSpec(
        "pytorch-grad-cam",
        "tests.benchmarks.peers.torch_grad_cam:load",
        explains=True,
        packages=("grad-cam", "torch", "torchvision"),
    ),
    EngineSpec(
        "tf-keras-vis",
        "tests.benchmarks.peers.keras_vis:load",
        explains=True,
        packages=("tf-keras-vis", "tf-keras"),
        environment=(("TF_USE_LEGACY_KERAS", "1"),),
    ),
    EngineSpec("notebook's loop", "tests.benchmarks.peers.notebook_loop:load", explains=True, packages=TENSORFLOW),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=SAMPLES)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--turn-s", type=float, default=2.0)
    parser.add_argument("--only", nargs="+", choices=[spec.name for spec in ENGINES], metavar="NAME")
    options = parser.parse_args()
    specs = [spec for spec in ENGINES if not options.only or spec.name in options.only]
    pictures = prepare_batch(options.folder)
    processes = [EngineProcess(spec, pictures) for spec in specs]
    results = measure(processes, rounds=options.rounds, turn_s=options.turn_s)
    tables = f"{format_rates(processes, results)}\n\n{format_ratios(results)}"
    for process in processes:
        process.close()
    print(tables)
    if not options.only:
        plot_rates(results, PLOT)
        write_section("engines", describe(tables, rounds=options.rounds, turn_s=options.turn_s))


def prepare_batch(folder: Path) -> NDArray[np.uint8]:
    """Prepare the first BATCH gradable photographs of a folder, by name; repeated if there are fewer."""
    recipe = load_bundle(MODEL).recipe
    limits = ImageLimits(64 * 2**20, 150_000_000)
    found: list[NDArray[np.uint8]] = []
    for path in sorted(folder.glob("*.jpg")):
        if len(found) == BATCH:
            break
        try:
            found.append(prepare_image(path.read_bytes(), recipe=recipe, overlay_size_px=512, limits=limits).enhanced)
        except (ImageError, Ungradable):
            continue
    return np.stack(list(itertools.islice(itertools.cycle(found), BATCH)))


def measure(processes: list[EngineProcess], *, rounds: int, turn_s: float) -> Results:
    """Measure all available engines. Returns one result per engine and round."""
    running = [process for process in processes if process.unavailable_reason is None]
    results: Results = {process.spec.name: [] for process in running}
    order = random.Random(0)
    for _ in range(rounds):
        for process in order.sample(running, len(running)):
            batches = max(1, round(turn_s / process.batch_s))
            wall_s, cpu_s = process.run(batches)
            images = batches * BATCH
            results[process.spec.name].append(RoundResult(images / wall_s, cpu_s / images * 1000))
    return results


def describe(tables: str, *, rounds: int, turn_s: float) -> str:
    """Format the section of RESULTS.md."""
    packages = tuple(dict.fromkeys(package for spec in ENGINES for package in spec.packages))
    return f"""## Engines

Grade and explain batches of {BATCH} preprocessed images of 224 px in memory: {rounds} interleaved rounds, about
{turn_s:g} s per engine, each engine in a separate process with all cores. Median (quartiles) over the rounds; ratios
are computed within a round. Engines marked "forward only" compute no saliency and get float input. Other load on the
machine affects wall-clock time but hardly CPU time, so both are given.

Command: `make bench`. Machine: {describe_machine()}.
Versions: {versions_of(packages)}.

{tables}

![Images per second of each engine]({PLOT.name})
"""


if __name__ == "__main__":
    main()
