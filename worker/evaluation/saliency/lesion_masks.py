"""Read photographs with lesion masks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib.image
import numpy as np
from numpy.typing import NDArray

from worker.core.errors import Ungradable, UsageError
from worker.core.predictions import ModelInput
from worker.imaging.photograph import Field, Photograph
from worker.imaging.steps.enhance import enhance_field
from worker.imaging.steps.find_field import find_field
from worker.imaging.upsample import upsample_saliency
from worker.model.bundle.ensemble import Model

LESION_KINDS = {"microaneurysms": 1, "haemorrhages": 2, "hard exudates": 4, "soft exudates": 8}
"""Bits of lesions in a mask. Bit 16 is the optic disc."""
LESION_BITS = 1 | 2 | 4 | 8
MASK_SUFFIX = "_lesions.png"


@dataclass(frozen=True, slots=True)
class AnnotatedPhotograph:
    """A photograph with its lesion mask.

    window: top, bottom, left, right of the model's input in photograph pixels; it can exceed the photograph. mask:
    bits of `LESION_KINDS`, uint8 (H, W), the size of the photograph.
    """

    name: str
    photograph: Photograph
    field: Field
    window: tuple[int, int, int, int]
    mask: NDArray[np.uint8]

    @property
    def lesions(self) -> NDArray[np.bool_]:
        """Pixels on a lesion of any kind, bool (H, W)."""
        return np.asarray(self.mask & LESION_BITS != 0)

    @property
    def field_mask(self) -> NDArray[np.bool_]:
        """Pixels within the field's border and its bounding box, bool (H, W)."""
        field, border = self.field, self.field.border
        y, x = np.ogrid[: self.mask.shape[0], : self.mask.shape[1]]
        across, down = (x - border.centre_x) / border.radius_x_px, (y - border.centre_y) / border.radius_y_px
        inside = np.asarray(across**2 + down**2 <= 1)
        inside[: field.top] = inside[field.bottom :] = inside[:, : field.left] = inside[:, field.right :] = False
        return inside

    def project_map(self, saliency: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a map (h, w) in photograph pixels, (H, W): enlarged to the window as in the overlay, 0 outside it."""
        top, bottom, left, right = self.window
        enlarged = upsample_saliency(saliency, bottom - top, right - left)[max(-top, 0) :, max(-left, 0) :]
        projected = np.zeros(self.mask.shape, np.float32)
        visible = projected[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
        visible[:] = enlarged[: visible.shape[0], : visible.shape[1]]
        return projected


def read_annotated(folder: Path, model: Model, on_warning: Callable[[str], object]) -> Iterator[AnnotatedPhotograph]:
    """Yield the photographs of a folder that have a lesion mask (`NAME.jpg`, `NAME_lesions.png`).

    A photograph without a field or a lesion is skipped with a warning. The files are read in this process, so the
    folder must be trusted. Raises UsageError if there is no mask, if a mask does not fit its photograph, or if all
    photographs are skipped.
    """
    masks = sorted(folder.glob(f"*{MASK_SUFFIX}"))
    if not masks:
        raise UsageError(f"no {MASK_SUFFIX} in {folder}")
    count = 0
    for mask in masks:
        try:
            annotated = _read(mask, model)
        except Ungradable as error:
            on_warning(f"{mask.name} is skipped: {error.detail}")
            continue
        if not annotated.lesions.any():
            on_warning(f"{mask.name} is skipped: it has no lesion pixel")
            continue
        count += 1
        yield annotated
    if not count:
        raise UsageError(f"no photograph in {folder} has both a field and a lesion")


def enhance_for(model: Model, annotated: AnnotatedPhotograph) -> ModelInput:
    """Return the input of a model for a photograph."""
    inputs = tuple(
        enhance_field(annotated.photograph, annotated.field, one) for one in (model.recipe, *model.extra_recipes)
    )
    return inputs if len(inputs) > 1 else inputs[0]


def _read(mask: Path, model: Model) -> AnnotatedPhotograph:
    name = mask.name.removesuffix(MASK_SUFFIX)
    photographs = [path for path in mask.parent.glob(f"{name}.*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"}]
    if len(photographs) != 1:
        raise UsageError(f"{mask} has {len(photographs)} photographs named {name} next to it, one is needed")
    bits, rgb = _read_bytes(mask), _read_bytes(photographs[0])
    if bits.ndim != 2 or rgb.shape != (*bits.shape, 3):
        raise UsageError(f"{mask} is {bits.shape}, its photograph {rgb.shape}; (H, W) and (H, W, 3) are needed")
    photograph = Photograph(rgb)
    field = find_field(photograph, model.recipe)
    return AnnotatedPhotograph(name, photograph, field, field.crop_window(model.recipe), bits)


def _read_bytes(path: Path) -> NDArray[np.uint8]:
    try:
        pixels = matplotlib.image.imread(path)
    except (OSError, SyntaxError, ValueError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    # imread returns PNG pixels as fractions of 255.
    return np.asarray(pixels if pixels.dtype == np.uint8 else np.rint(pixels * 255), np.uint8)
