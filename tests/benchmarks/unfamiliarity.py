"""Share of photographs that are refused, flagged today and flagged as unfamiliar, by kind of defect.

    python -m tests.benchmarks.unfamiliarity FOLDER [FOLDER ...] [--model BUNDLE] [--every 10] [--others FOLDER]

FOLDER contains photographs that experts graded; every tenth is also degraded in each way, fully and by half. --others
contains images of something else, in addition to synthetic ones and the sample images of scikit-learn and matplotlib.
"""

import argparse
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from sklearn.metrics import roc_auc_score

from tests.benchmarks.degradations import DEGRADATIONS, Picture, other_images
from worker.core.errors import ImageError, Ungradable
from worker.core.predictions import ModelInput, Prediction
from worker.core.settings import parse_settings
from worker.core.vocabulary import Flag
from worker.imaging.sandbox.pool import DecoderPool
from worker.model.bundle.bundle import DEFAULT_BUNDLE
from worker.model.bundle.ensemble import Model, load_model
from worker.model.decide_grade import decide_grade
from worker.model.engines.factory import make_engine

BATCH = 16
ORIGINAL = "original"


@dataclass
class Kind:
    """Pictures of one kind: number of refused ones, and the inputs of the others."""

    refused: int = 0
    inputs: list[ModelInput] = field(default_factory=list)


def main() -> None:
    """Print one line per kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--model", default=DEFAULT_BUNDLE)
    parser.add_argument("--every", type=int, default=10, help="use every N-th photograph")
    parser.add_argument("--others", type=Path, action="append", default=[])
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    model = load_model(options.model)
    if model.familiarity is None:
        parser.error(f"{options.model} has no feature spaces; `fundus model familiarity` learns them")
    kinds = read_kinds(options.folders, options.others, model, options.every, np.random.default_rng(options.seed))
    engine = make_engine("auto", model)
    found = {
        name: [
            prediction
            for start in range(0, len(kind.inputs), BATCH)
            for prediction in engine.predict(kind.inputs[start : start + BATCH])
        ]
        for name, kind in kinds.items()
    }
    print(f"{'pictures':28} {'number':>6} {'refused':>8} {'graded':>6} {'flagged':>8} {'unfamiliar':>10} {'AUC':>6}")
    for name, kind in kinds.items():
        print_kind(name, kind, found[name], found[ORIGINAL], model)


def read_kinds(
    folders: list[Path], others: list[Path], model: Model, every: int, random: np.random.Generator
) -> dict[str, Kind]:
    """Prepare the photographs, their degraded copies, and images of something else."""
    kinds: dict[str, Kind] = defaultdict(Kind)
    pool = DecoderPool(model.recipe, parse_settings(), extra_recipes=model.extra_recipes)

    def add(name: str, rgb: Picture) -> None:
        data = cv2.imencode(".png", rgb[:, :, ::-1])[1].tobytes()
        try:
            kinds[name].inputs.append(pool.submit(data).result().model_input)
        except (ImageError, Ungradable):
            kinds[name].refused += 1

    try:
        for folder in folders:
            paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
            for path in paths[::every]:
                rgb = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
                add(ORIGINAL, rgb)
                for kind, degrade in DEGRADATIONS.items():
                    degraded = degrade(rgb, random)
                    add(kind, degraded)
                    if degraded.shape == rgb.shape:
                        add(f"{kind} by half", np.asarray(cv2.addWeighted(rgb, 0.5, degraded, 0.5, 0), np.uint8))
        for kind, rgb in other_images(others, random):
            add(kind, rgb)
    finally:
        pool.close()
    return kinds


def print_kind(name: str, kind: Kind, found: list[Prediction], originals: list[Prediction], model: Model) -> None:
    """Print number, share refused, and of the graded ones the shares flagged, and the AUC against the originals."""
    number = kind.refused + len(found)
    cells = f"{name:28} {number:6} {kind.refused / number:8.1%} {len(found):6}"
    if not found:
        print(cells)
        return
    flags = [set(decide_grade(one, model).flags) for one in found]
    flagged = np.mean([bool(one - {Flag.UNFAMILIAR}) for one in flags])
    unfamiliar = np.mean([Flag.UNFAMILIAR in one for one in flags])
    scores = [[one.unfamiliarity or 0.0 for one in group] for group in (originals, found)]
    labels = [0] * len(scores[0]) + [1] * len(scores[1])
    auc = "" if name == ORIGINAL else f"{roc_auc_score(labels, scores[0] + scores[1]):6.3f}"
    print(f"{cells} {flagged:8.1%} {unfamiliar:10.1%} {auc:>6}")


if __name__ == "__main__":
    main()
