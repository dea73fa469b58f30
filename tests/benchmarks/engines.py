"""Our engines and their peers on the same pictures and cores, in turn, round after round.

    python -m tests.benchmarks.engines [FOLDER] [--rounds N] [--turn-s S] [--only NAME ...]

Every contender is warm and has a process of its own. In each round each runs for about as long, in an order drawn anew;
a ratio is taken within a round, so that a machine whose speed drifts is fair to all. Prints two tables; a run of all
contenders also writes them, with a plot, into RESULTS.md.
"""

import argparse
import itertools
import random
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.contender import Contender, Entry, versions_of
from tests.benchmarks.engines_report import Rates, Turn, plot_rates, rates_table, ratios_table
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

ENTRIES = (
    Entry("fundus, OpenVINO", "tests.benchmarks.own_engines:load_openvino", explains=True, packages=("openvino",)),
    Entry(
        "fundus, OpenVINO int8",
        "tests.benchmarks.own_engines:load_openvino_int8",
        explains=True,
        packages=("openvino",),
    ),
    Entry("fundus, TensorFlow", "tests.benchmarks.own_engines:load_tensorflow", explains=True, packages=TENSORFLOW),
    Entry("raw OpenVINO", "tests.benchmarks.peers.raw_openvino:load", explains=False, packages=("openvino",)),
    Entry("TensorFlow", "tests.benchmarks.peers.tensorflow_forward:load", explains=False, packages=TENSORFLOW),
    Entry(
        "ONNX Runtime", "tests.benchmarks.peers.onnx_runtime:load", explains=True, packages=("onnxruntime", "tf2onnx")
    ),
    Entry(
        "pytorch-grad-cam",
        "tests.benchmarks.peers.torch_grad_cam:load",
        explains=True,
        packages=("grad-cam", "torch", "torchvision"),
    ),
    Entry(
        "tf-keras-vis",
        "tests.benchmarks.peers.keras_vis:load",
        explains=True,
        packages=("tf-keras-vis", "tf-keras"),
        environment=(("TF_USE_LEGACY_KERAS", "1"),),
    ),
    Entry("notebook's loop", "tests.benchmarks.peers.notebook_loop:load", explains=True, packages=TENSORFLOW),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=SAMPLES)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--turn-s", type=float, default=2.0)
    parser.add_argument("--only", nargs="+", choices=[entry.name for entry in ENTRIES], metavar="NAME")
    options = parser.parse_args()
    entries = [entry for entry in ENTRIES if not options.only or entry.name in options.only]
    pictures = prepare_batch(options.folder)
    contenders = [Contender(entry, pictures) for entry in entries]
    rates = measure(contenders, rounds=options.rounds, turn_s=options.turn_s)
    tables = f"{rates_table(contenders, rates)}\n\n{ratios_table(rates)}"
    for contender in contenders:
        contender.close()
    print(tables)
    if not options.only:
        plot_rates(rates, PLOT)
        write_section("engines", describe(tables, rounds=options.rounds, turn_s=options.turn_s))


def prepare_batch(folder: Path) -> NDArray[np.uint8]:
    """The first gradable photographs of a folder, by name, as the network sees them; repeated if they are few."""
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


def measure(contenders: list[Contender], *, rounds: int, turn_s: float) -> Rates:
    """What every contender that runs here achieves, one value a round."""
    running = [contender for contender in contenders if contender.refusal is None]
    rates: Rates = {contender.entry.name: [] for contender in running}
    order = random.Random(0)
    for _ in range(rounds):
        for contender in order.sample(running, len(running)):
            batches = max(1, round(turn_s / contender.batch_s))
            wall_s, processor_s = contender.run(batches)
            images = batches * BATCH
            rates[contender.entry.name].append(Turn(images / wall_s, processor_s / images * 1000))
    return rates


def describe(tables: str, *, rounds: int, turn_s: float) -> str:
    """The section of RESULTS.md."""
    packages = tuple(dict.fromkeys(package for entry in ENTRIES for package in entry.packages))
    return f"""## Engines

Grade and explain batches of {BATCH} pictures of 224 px that lie ready in memory: {rounds} rounds, about {turn_s:g} s a
turn, each contender in a process of its own with all cores. Median, and in brackets the quartiles over the rounds;
ratios are taken within a round. The forward passes explain nothing, and their input is ready as floats. What other
programs do on the machine disturbs the clock and hardly the processor time, so both are given.

Command: `make bench`. Machine: {describe_machine()}.
Versions: {versions_of(packages)}.

{tables}

![Images per second of each engine]({PLOT.name})
"""


if __name__ == "__main__":
    main()
