"""How many good photographs are refused, and how many that were ruined on purpose? Prints both, with the reasons.

    python -m tests.benchmarks.gradability FOLDER [FOLDER ...] [--ruin 10] [--others FOLDER]

FOLDER holds photographs that experts graded; every tenth is ruined in each way. --others holds pictures of something
else; those that scikit-learn and matplotlib bring, and synthetic ones, come without asking.
"""

import argparse
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from tests.benchmarks.degradations import DEGRADATIONS, Picture, other_pictures
from worker.core.errors import Ungradable
from worker.imaging.photograph import Photograph
from worker.imaging.steps.find_field import find_field
from worker.imaging.steps.gradability import assess_gradability, measure_quality
from worker.model.bundle.bundle import DEFAULT_BUNDLE, find_bundle, read_manifest

RECIPE = read_manifest(find_bundle(DEFAULT_BUNDLE)).recipe
MAX_GOOD_REFUSED = 0.03
MIN_RUINED_REFUSED = 0.95
PASSED = "passed"


def main() -> int:
    """The table; 1 where a share is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--ruin", type=int, default=10, help="every so manieth photograph is ruined")
    parser.add_argument("--others", type=Path, action="append", default=[])
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    random = np.random.default_rng(options.seed)
    outcomes: dict[tuple[str, str], Counter[str]] = {}
    measures: list[dict[str, float]] = []

    def count(group: str, kind: str, rgb: Picture) -> None:
        outcomes.setdefault((group, kind), Counter())[refuse(rgb)] += 1

    for folder in options.folders:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
        for number, path in enumerate(paths):
            rgb = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
            count(folder.name, "as taken", rgb)
            measures += measure(rgb)
            if number % options.ruin == 0:
                for kind, ruin in DEGRADATIONS.items():
                    count(folder.name, kind, ruin(rgb, random))
    for kind, rgb in other_pictures(options.others, random):
        count("others", kind, rgb)
    print_extremes(measures)
    return print_outcomes(outcomes)


def refuse(rgb: Picture) -> str:
    """The code, or that it passed."""
    photograph = Photograph(rgb)
    try:
        assess_gradability(photograph, find_field(photograph, RECIPE))
    except Ungradable as error:
        return error.code
    return PASSED


def measure(rgb: Picture) -> list[dict[str, float]]:
    """Of a photograph with a field, else nothing."""
    photograph = Photograph(rgb)
    try:
        return [asdict(measure_quality(photograph, find_field(photograph, RECIPE)))]
    except Ungradable:
        return []


def print_extremes(measures: list[dict[str, float]]) -> None:
    """Both ends of each measure over all photographs as taken."""
    quantiles = (0, 0.005, 0.03, 0.5, 0.97, 0.995, 1)
    print(f"{'as taken':16}", *(f"{f'{quantile:.1%}':>9}" for quantile in quantiles))
    for name in measures[0]:
        values = np.quantile([one[name] for one in measures], quantiles)
        print(f"{name:16}", *(f"{value:9.3f}" for value in values))


def print_outcomes(outcomes: dict[tuple[str, str], "Counter[str]"]) -> int:
    """A line for each kind; 1 where too many good ones or too few ruined ones are refused."""
    status = 0
    print(f"\n{'pictures':36} {'number':>6} {'refused':>8}  reasons")
    for (group, kind), codes in outcomes.items():
        number = codes.total()
        refused = 1 - codes[PASSED] / number
        wrong = refused > MAX_GOOD_REFUSED if kind == "as taken" else refused < MIN_RUINED_REFUSED
        status |= wrong
        reasons = ", ".join(f"{code} {count}" for code, count in codes.most_common() if code != PASSED)
        print(f"{f'{group}: {kind}':36} {number:6} {refused:8.1%}  {reasons}{'  <- not as it should be' * wrong}")
    return status


if __name__ == "__main__":
    raise SystemExit(main())
