"""How much of each kind of lesion a saliency map covers, next to how much of the whole field."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.evaluation.saliency.lesion_masks import LESION_BITS, LESION_KINDS, AnnotatedPhotograph

LEVEL = 0.25
"""A map covers the pixels where it has at least this share of its maximum in the field."""
ANY_LESION = "any lesion"


@dataclass(frozen=True, slots=True)
class LesionCoverage:
    """Shares of one photograph that its map covers, each in [0, 1].

    lesions: share of the lesion pixels in the field, by kind and for `ANY_LESION`; kinds that the photograph lacks are
    missing. field: share of the field.
    """

    lesions: dict[str, float]
    field: float


def measure_coverage(photograph: AnnotatedPhotograph, saliency: NDArray[np.float32]) -> LesionCoverage:
    """Measure a map (h, w) of a photograph. An empty map covers nothing."""
    in_field = photograph.field_mask
    projected = photograph.project_map(saliency)
    most = float(projected[in_field].max(initial=0))
    covered = projected >= LEVEL * most if most > 0 else np.zeros(in_field.shape, bool)
    lesions = {}
    for kind, bits in {ANY_LESION: LESION_BITS, **LESION_KINDS}.items():
        pixels = in_field & (photograph.mask & bits != 0)
        if pixels.any():
            lesions[kind] = float(covered[pixels].mean())
    return LesionCoverage(lesions, float(covered[in_field].mean()))
