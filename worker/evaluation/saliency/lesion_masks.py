"""Read photographs whose lesions somebody marked, and what a model sees of them."""

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

LESION_BITS = 1 | 2 | 4 | 8
"""Bits of a mask: microaneurysms, haemorrhages, hard exudates, soft exudates; 16 is the optic disc."""
MASK_SUFFIX = "_lesions.png"


@dataclass(frozen=True, slots=True)
class AnnotatedPhotograph:
    """A photograph with its lesions.

    window: top, bottom, left, right of what the model sees; it may reach past the picture. lesions: bool (H, W), of the
    photograph's size.
    """

    name: str
    photograph: Photograph
    field: Field
    window: tuple[int, int, int, int]
    lesions: NDArray[np.bool_]

    @property
    def field_mask(self) -> NDArray[np.bool_]:
        """Pixels of the photograph, (H, W), within both the field's border and its box."""
        field, border = self.field, self.field.border
        y, x = np.ogrid[: self.lesions.shape[0], : self.lesions.shape[1]]
        across, down = (x - border.centre_x) / border.radius_x_px, (y - border.centre_y) / border.radius_y_px
        inside = np.asarray(across**2 + down**2 <= 1)
        inside[: field.top] = inside[field.bottom :] = inside[:, : field.left] = inside[:, field.right :] = False
        return inside

    def project_map(self, saliency: NDArray[np.float32]) -> NDArray[np.float32]:
        """A map (h, w) over the photograph, (H, W), enlarged over the window as in the overlay; 0 beyond it."""
        top, bottom, left, right = self.window
        shown = upsample_saliency(saliency, bottom - top, right - left)[max(-top, 0) :, max(-left, 0) :]
        laid = np.zeros(self.lesions.shape, np.float32)
        place = laid[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
        place[:] = shown[: place.shape[0], : place.shape[1]]
        return laid


def read_annotated(folder: Path, model: Model, on_warning: Callable[[str], object]) -> Iterator[AnnotatedPhotograph]:
    """All photographs of a folder that have a mask with a lesion beside them (`NAME.jpg`, `NAME_lesions.png`).

    A photograph without a field or a lesion is left out, with a remark. The folder is one's own: its pictures are read
    in this process. Raises UsageError where there is no mask, one does not fit its photograph, or none is left.
    """
    masks = sorted(folder.glob(f"*{MASK_SUFFIX}"))
    if not masks:
        raise UsageError(f"no {MASK_SUFFIX} in {folder}")
    count = 0
    for mask in masks:
        try:
            marked = _read(mask, model)
        except Ungradable as error:
            on_warning(f"{mask.name} is left out: {error.detail}")
            continue
        if not marked.lesions.any():
            on_warning(f"{mask.name} is left out: it marks no lesion")
            continue
        count += 1
        yield marked
    if not count:
        raise UsageError(f"no photograph of {folder} can be judged")


def enhance_for(model: Model, marked: AnnotatedPhotograph) -> ModelInput:
    """What the model takes of a photograph."""
    pictures = tuple(
        enhance_field(marked.photograph, marked.field, one) for one in (model.recipe, *model.extra_recipes)
    )
    return pictures if len(pictures) > 1 else pictures[0]


def _read(mask: Path, model: Model) -> AnnotatedPhotograph:
    name = mask.name.removesuffix(MASK_SUFFIX)
    photographs = [path for path in mask.parent.glob(f"{name}.*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"}]
    if len(photographs) != 1:
        raise UsageError(f"{mask} has {len(photographs)} photographs named {name} beside it, one is needed")
    bits, rgb = _read_bytes(mask), _read_bytes(photographs[0])
    if bits.ndim != 2 or rgb.shape != (*bits.shape, 3):
        raise UsageError(f"{mask} is {bits.shape}, its photograph {rgb.shape}; (H, W) and (H, W, 3) are needed")
    photograph = Photograph(rgb)
    field = find_field(photograph, model.recipe)
    return AnnotatedPhotograph(name, photograph, field, field.crop_window(model.recipe), bits & LESION_BITS != 0)


def _read_bytes(path: Path) -> NDArray[np.uint8]:
    try:
        pixels = matplotlib.image.imread(path)
    except (OSError, SyntaxError, ValueError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    # Of a PNG the reader gives fractions of 255.
    return np.asarray(pixels if pixels.dtype == np.uint8 else np.rint(pixels * 255), np.uint8)
