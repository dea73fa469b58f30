"""Share of the missed referable eyes and of the correct negatives that low confidence marks, by source.

    python -m tests.benchmarks.review_flag --manifest CSV [--model BUNDLE] [--every N] [--scores FILE]
    python -m tests.benchmarks.review_flag --run RUN --manifest CSV

The manifest names photographs with reference grades and their `source`. Photographs of the model's training set are
left out. With --run, the results of a run that was enqueued with reference grades are read from the ledger instead, and
the manifest only gives the sources. --scores stores what was graded, so that it is not graded again.

The first table is of the shipped rule. In the second one, the margin of each source is chosen on the others: the widest
that marks at most a share of --negatives of their correct negatives, as a mean over sources.
"""

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from worker.core.settings import read_settings
from worker.core.vocabulary import REFERABLE_FROM, REVIEW_FLAGS, REVIEW_MARGIN, Status
from worker.ledger.database import connect, read_transaction
from worker.ledger.schema import OUTPUTS, gradings, images
from worker.model.bundle.bundle import DEFAULT_BUNDLE
from worker.model.bundle.ensemble import Model, load_model, parse_manifest

BATCH = 16
MARGINS = np.round(np.arange(0, 0.4, 0.005), 3)


@dataclass(frozen=True)
class Scored:
    """N graded photographs.

    sources: str (N,). reference, grades: int (N,). below: how far the score for referable DR lies below the threshold,
    float (N,). flagged: whether a flag asks for a review, bool (N,).
    """

    sources: NDArray[np.str_]
    reference: NDArray[np.int64]
    grades: NDArray[np.int64]
    below: NDArray[np.float64]
    flagged: NDArray[np.bool_]

    @property
    def missed(self) -> NDArray[np.bool_]:
        return (self.reference >= REFERABLE_FROM) & (self.grades < REFERABLE_FROM)

    @property
    def correct_negatives(self) -> NDArray[np.bool_]:
        return (self.reference < REFERABLE_FROM) & (self.grades < REFERABLE_FROM)

    def mark(self, margin: float) -> NDArray[np.bool_]:
        """Return which photographs have low confidence, as `worker.report.columns.is_doubtful` does."""
        return ((self.grades < REFERABLE_FROM) & (self.below < margin)) | self.flagged


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--run")
    parser.add_argument("--model", default=DEFAULT_BUNDLE)
    parser.add_argument("--every", type=int, default=1, help="use every N-th photograph of the manifest")
    parser.add_argument("--scores", type=Path, help="NumPy file of what was graded; written if it does not exist")
    parser.add_argument("--negatives", type=float, default=0.1)
    options = parser.parse_args()
    if options.scores and options.scores.exists():
        stored = np.load(options.scores, allow_pickle=False)
        scored = Scored(**{field.name: stored[field.name] for field in fields(Scored)})
    elif options.run:
        scored = read_run(options.run, options.manifest)
    else:
        scored = grade_photographs(options.manifest, load_model(options.model), options.model, options.every)
    if options.scores and not options.scores.exists():
        np.savez(options.scores, **{field.name: getattr(scored, field.name) for field in fields(Scored)})
    print(f"shipped margin {REVIEW_MARGIN}")
    print_table(scored, dict.fromkeys(find_sources(scored), REVIEW_MARGIN))
    chosen = choose_margin(scored, find_sources(scored), options.negatives)
    print(f"\nmargin chosen on all sources {chosen}; for each source on the others:")
    print_table(scored, choose_without_each_source(scored, options.negatives))


def find_sources(scored: Scored) -> list[str]:
    """Return the sources in alphabetical order."""
    return [str(source) for source in np.unique(scored.sources)]


def choose_margin(scored: Scored, sources: Sequence[str], negatives: float) -> float:
    """Return the widest margin that marks at most this share of correct negatives, as a mean over sources."""
    return float(max((m for m in MARGINS if np.mean(_marked_negatives(scored, sources, m)) <= negatives), default=0.0))


def choose_without_each_source(scored: Scored, negatives: float) -> dict[str, float]:
    """Return a margin for each source that was chosen on the other sources."""
    sources = find_sources(scored)
    return {one: choose_margin(scored, [other for other in sources if other != one], negatives) for one in sources}


def format_ratio(missed: "_Share", negatives: "_Share") -> str:
    """Return how much larger the first share is, `-` without missed eyes or marked correct negatives."""
    return f"{missed.value / negatives.value:.1f}" if missed.is_known and negatives.value else "-"


def print_table(scored: Scored, margins: dict[str, float]) -> None:
    """Print one line for each source, and one for all."""
    marked = np.zeros(len(scored.grades), bool)
    for source, margin in margins.items():
        marked |= scored.mark(margin) & (scored.sources == source)
    print(
        f"{'source':12} {'margin':>7} {'missed marked':>16} {'correct negatives marked':>26} {'ratio':>6} {'of all':>7}"
    )
    for source in (*margins, "all"):
        there = np.ones_like(marked) if source == "all" else scored.sources == source
        cells = [_Share(marked[there & which]) for which in (scored.missed, scored.correct_negatives)]
        ratio = format_ratio(*cells)
        margin = f"{margins[source]:.3f}" if source in margins else ""
        print(f"{source:12} {margin:>7} {cells[0]!s:>16} {cells[1]!s:>26} {ratio:>6} {marked[there].mean():>7.0%}")


class _Share:
    def __init__(self, marked: NDArray[np.bool_]) -> None:
        self._text = f"{marked.sum():,} of {len(marked):,}"
        self.is_known = len(marked) > 0
        self.value = float(marked.mean()) if len(marked) else 0.0

    def __str__(self) -> str:
        return f"{self._text} {self.value:4.0%}"


def _marked_negatives(scored: Scored, sources: Sequence[str], margin: float) -> list[float]:
    marked = scored.mark(margin) & scored.correct_negatives
    there = [(scored.sources == source) & scored.correct_negatives for source in sources]
    return [float(marked[one].sum() / max(1, one.sum())) for one in there]


def read_run(name: str, manifest: Path) -> Scored:
    """Read the graded photographs of a labelled run from the ledger; the manifest gives their sources."""
    from worker.evaluation.labelled import find_graded_run

    engine = connect(read_settings())
    run = find_graded_run(engine, name)
    with manifest.open(newline="") as lines:
        sources = {row["image_id"]: row["source"] for row in csv.DictReader(lines)}
    query = (
        select(gradings.c.image_id, images.c.reference_grade, gradings.c.grade, gradings.c.flags,
               gradings.c[OUTPUTS[REFERABLE_FROM]])
        .join(images, images.c.image_id == gradings.c.image_id)
        .where(gradings.c.run_id == run.run_id, gradings.c.status == Status.GRADED)
        .where(images.c.reference_grade.is_not(None))
    )  # fmt: skip
    with read_transaction(engine) as connection:
        rows = connection.execute(query).all()
    threshold = parse_manifest(run.manifest).thresholds[REFERABLE_FROM]
    ids, reference, grades, flags, outputs = zip(*rows, strict=True)
    return Scored(
        np.array([sources.get(one, "") for one in ids]),
        np.array(reference),
        np.array(grades),
        threshold - np.array(outputs),
        np.array([not REVIEW_FLAGS.isdisjoint((one or "").split(",")) for one in flags]),
    )


def grade_photographs(manifest: Path, model: Model, bundle: str, every: int) -> Scored:
    """Grade the photographs of a manifest that the bundle was not trained on."""
    from worker.model.decide_grade import decide_grade
    from worker.model.engines.factory import make_engine
    from worker.training.dataset import ExcludedImage, hash_pixels, prepare_examples
    from worker.training.examples import read_examples
    from worker.training.lineage import trace_lineage
    from worker.training.split import HASH_DIGITS

    settings, trained_on = read_settings(), trace_lineage(bundle, model).trained_on or frozenset()
    engine = make_engine("auto", model)
    examples = read_examples(manifest, settings, print)[::every]
    prepared = (
        (example, image.model_input)
        for example, image in prepare_examples(
            examples, model.recipe, extra_recipes=model.extra_recipes, settings=settings
        )
        if not isinstance(image, ExcludedImage) and hash_pixels(image)[:HASH_DIGITS] not in trained_on
    )
    graded: list[tuple[str, int, int, float, bool]] = []
    while batch := list(islice(prepared, BATCH)):
        for (example, _), prediction in zip(batch, engine.predict([one for _, one in batch]), strict=True):
            decision = decide_grade(prediction, model)
            below = model.thresholds[REFERABLE_FROM] - float(prediction.probabilities[REFERABLE_FROM])
            asks = not REVIEW_FLAGS.isdisjoint(decision.flags)
            graded.append((example.source or "", int(example.grade), int(decision.grade), below, asks))
    print(f"{len(graded):,} of {len(examples):,} photographs are gradable and were not trained on")
    return Scored(*(np.array(column) for column in zip(*graded, strict=True)))


if __name__ == "__main__":
    main()
