"""Labelled images for tests of metrics, without a ledger."""

from collections.abc import Sequence

import numpy as np

from worker.evaluation.labelled import NOT_GRADED, Labelled


def labelled(
    reference: Sequence[int],
    grades: Sequence[int | None],
    probabilities: Sequence[float] | None = None,
    patients: Sequence[str] | None = None,
) -> Labelled:
    """Return one image per entry; every output of an image has its entry of `probabilities`."""
    count = len(reference)
    graded = np.array([grade is not None for grade in grades])
    chance = np.array(probabilities if probabilities is not None else [0.5] * count)
    return Labelled(
        ids=np.array([f"i{number:03}" for number in range(count)]),
        eyes=np.array(["left", "right"] * count)[:count],
        patients=np.array(patients if patients is not None else [""] * count),
        statuses=np.where(graded, "graded", "ungradable"),
        reference=np.array(reference),
        grades=np.array([NOT_GRADED if grade is None else grade for grade in grades]),
        probabilities=np.where(graded[:, None], np.repeat(chance[:, None], 5, axis=1), np.nan),
    )
