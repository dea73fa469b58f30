"""Share of gradable and of degraded photographs that the gradability checks refuse, with the reasons.

    python -m tests.benchmarks.gradability FOLDER [FOLDER ...] [--degrade-every 10] [--others FOLDER]

FOLDER contains photographs that experts graded; every tenth is degraded in each way. --others contains images of
something else, in addition to synthetic ones and the sample images of scikit-learn and matplotlib.
"""

import argparse
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from tests.benchmarks.degradations import DEGRADATIONS, Picture, other_images
from worker.core.errors import Ungradable
from worker.imaging.photograph import Photograph
from worker.imaging.steps.find_field import find_field
from worker.imaging.steps.gradability import assess_gradability, measure_quality
from worker.model.bundle.bundle import DEFAULT_BUNDLE, find_bundle
from worker.model.bundle.ensemble import read_any_manifest

RECIPE = read_any_manifest(find_bundle(DEFAULT_BUNDLE)).recipe
MAX_GRADABLE_REFUSED = 0.03
MIN_DEGRADED_REFUSED = 0.95
PASSED = "passed"


def main() -> int:
    """Print the tables. Exit status 1 if a share is out of its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--degrade-every", type=int, default=10, help="degrade every N-th photograph")
    parser.add_argument("--others", type=Path, action="append", default=[])
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    random = np.random.default_rng(options.seed)
    outcomes: dict[tuple[str, str], Counter[str]] = {}
    measures: list[dict[str, float]] = []

    def count(group: str, kind: str, rgb: Picture) -> None:
        outcomes.setdefault((group, kind), Counter())[assess(rgb)] += 1

    for folder in options.folders:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
        for number, path in enumerate(paths):
            rgb = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
            count(folder.name, "original", rgb)
            measures += measure(rgb)
            if number % options.degrade_every == 0:
                for kind, degrade in DEGRADATIONS.items():
                    count(folder.name, kind, degrade(rgb, random))
    for kind, rgb in other_images(options.others, random):
        count("others", kind, rgb)
    print_extremes(measures)
    return print_outcomes(outcomes)


def assess(rgb: Picture) -> str:
    """Return the error code of Ungradable, or PASSED."""
    photograph = Photograph(rgb)
    try:
        assess_gradability(photograph, find_field(photograph, RECIPE))
    except Ungradable as error:
        return error.code
    return PASSED


def measure(rgb: Picture) -> list[dict[str, float]]:
    """Return the quality measures in a list, which is empty for a photograph without a field."""
    photograph = Photograph(rgb)
    try:
        return [asdict(measure_quality(photograph, find_field(photograph, RECIPE)))]
    except Ungradable:
        return []


def print_extremes(measures: list[dict[str, float]]) -> None:
    """Print quantiles of each measure over all original photographs."""
    quantiles = (0, 0.005, 0.03, 0.5, 0.97, 0.995, 1)
    print(f"{'original':16}", *(f"{f'{quantile:.1%}':>9}" for quantile in quantiles))
    for name in measures[0]:
        values = np.quantile([one[name] for one in measures], quantiles)
        print(f"{name:16}", *(f"{value:9.3f}" for value in values))


def print_outcomes(outcomes: dict[tuple[str, str], "Counter[str]"]) -> int:
    """Print one line per kind. Returns 1 if too many gradable or too few degraded images are refused."""
    status = 0
    print(f"\n{'images':36} {'number':>6} {'refused':>8}  reasons")
    for (group, kind), codes in outcomes.items():
        number = codes.total()
        refused = 1 - codes[PASSED] / number
        out_of_limit = refused > MAX_GRADABLE_REFUSED if kind == "original" else refused < MIN_DEGRADED_REFUSED
        status |= out_of_limit
        reasons = ", ".join(f"{code} {count}" for code, count in codes.most_common() if code != PASSED)
        print(f"{f'{group}: {kind}':36} {number:6} {refused:8.1%}  {reasons}{'  <- out of limit' * out_of_limit}")
    return status


if __name__ == "__main__":
    raise SystemExit(main())
