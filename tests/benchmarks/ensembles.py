"""Agreement with reference grades, and throughput, of ensembles and their members.

    python -m tests.benchmarks.ensembles FOLDER --labels CSV BUNDLE [BUNDLE ...]

Each bundle, a name or a folder, of one network or an ensemble, grades the same photographs.
"""

import argparse
import csv
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from worker.core.errors import Ungradable
from worker.core.predictions import ModelInput, Prediction
from worker.core.settings import parse_settings
from worker.imaging.sandbox.pool import DecoderPool
from worker.model.bundle.ensemble import Model, load_model
from worker.model.engines.factory import make_engine
from worker.model.ordinal import decode_outputs

Grades = NDArray[np.int64]
IDS, GRADES = ("id_code", "image", "image_id"), ("diagnosis", "dr_grade", "reference_grade")


def main() -> None:
    """Print one line per bundle."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("bundles", nargs="+")
    options = parser.parse_args()
    reference = read_labels(options.labels)
    paths = [path for path in sorted(options.folder.iterdir()) if path.stem in reference and path.suffix != ".csv"]
    paths = paths[: options.limit]
    heads = ("passes", "images", "kappa", "AUC")
    print(f"{'bundle':24}", *(f"{head:>6}" for head in heads), " images/s   CPU ms  kappa by disagreement")
    for ref in options.bundles:
        evaluate_bundle(load_model(ref), paths, np.array([reference[path.stem] for path in paths]))


def read_labels(file: Path) -> dict[str, int]:
    """Read reference grades by image from a CSV with the columns of APTOS or IDRiD."""
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    name, grade = (next(column for column in columns if column in rows[0]) for columns in (IDS, GRADES))
    return {row[name]: int(row[grade]) for row in rows}


def evaluate_bundle(model: Model, paths: list[Path], reference: Grades) -> None:
    """Prepare all images, time the engine, and print throughput and agreement."""
    settings = parse_settings()
    pool = DecoderPool(model.recipe, settings, extra_recipes=model.extra_recipes)
    prepared: list[ModelInput | None] = []
    for future in [pool.submit(path.read_bytes()) for path in paths]:
        try:
            prepared.append(future.result().model_input)
        except Ungradable:
            prepared.append(None)
    pool.close()
    reference = reference[[one is not None for one in prepared]]
    pictures = [one for one in prepared if one is not None]
    engine = make_engine(settings.engine, model)
    size = settings.max_batch_size
    engine.warm_up(size)
    predictions: list[Prediction] = []
    started, cpu_started = time.monotonic(), time.process_time()
    for start in range(0, len(pictures), size):
        predictions += engine.predict(pictures[start : start + size])
    images_per_s = len(pictures) / (time.monotonic() - started)
    cpu_ms = 1000 * (time.process_time() - cpu_started) / len(pictures)
    grades = np.array([decode_outputs(one.probabilities, model.thresholds).grade for one in predictions])
    auc = roc_auc_score(reference >= 2, [one.probabilities[2] for one in predictions])
    passes = sum(len(member.views) for member in getattr(model.manifest, "members", ())) or 1
    line = f"{model.name:24} {passes:6} {len(grades):6} {quadratic_weighted_kappa(reference, grades):6.3f} {auc:6.3f}"
    line += f" {images_per_s:9.1f} {cpu_ms:8.1f}"
    if predictions[0].disagreement is not None:
        order = np.argsort([one.disagreement for one in predictions])
        thirds = [
            f"{quadratic_weighted_kappa(reference[third], grades[third]):.3f}" for third in np.array_split(order, 3)
        ]
        line += f"  least {thirds[0]}, middle {thirds[1]}, most {thirds[2]}"
    print(line, flush=True)


def quadratic_weighted_kappa(reference: Grades, grades: Grades) -> float:
    return float(cohen_kappa_score(reference, grades, weights="quadratic"))


if __name__ == "__main__":
    main()
