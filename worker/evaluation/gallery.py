"""Draw galleries of photograph, enhanced image and overlay: by reference grade, and of the costliest images."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.image
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sqlalchemy import Engine, select

from worker.core.errors import ImageError, ServiceError, Ungradable
from worker.core.settings import Settings
from worker.core.storage.storage import Storage
from worker.core.vocabulary import Grade
from worker.evaluation.auc_loss import CostlyImage
from worker.evaluation.figure_file import write_figure
from worker.evaluation.labelled import NOT_GRADED, GradedRun, Labelled
from worker.evaluation.palette import VERMILION
from worker.evaluation.plot_style import house_style
from worker.evaluation.view import format_name
from worker.imaging.sandbox.pool import DecoderPool
from worker.imaging.steps.fetch import fetch_photograph, fetch_stack_entry, is_stack_entry
from worker.imaging.steps.prepare import prepare_stack_entry
from worker.ledger.database import read_transaction
from worker.ledger.schema import gradings, images
from worker.model.bundle.ensemble import parse_manifest

WIDTH_PX = 1600
IMAGE_INCHES = 8 / 3
DPI = WIDTH_PX // 8

OnWarning = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class GalleryRow:
    """One row: three images (H, W, 3), uint8 or float in [0, 1], and the grades."""

    image_id: str
    reference: int
    grade: int
    photograph: NDArray[Any]
    enhanced: NDArray[Any]
    overlay: NDArray[Any]


def draw_galleries(
    engine: Engine,
    settings: Settings,
    run: GradedRun,
    labelled: Labelled,
    costliest: Mapping[str, Sequence[CostlyImage]],
    out: Path,
    *,
    rows: int,
    on_warning: OnWarning,
) -> list[Path]:
    """Write one PNG for each reference grade with graded images, the largest errors first, and one for each cut.

    costliest: by cut, the images that cost most AUC. rows: most rows in each gallery. An image whose photograph or
    overlay is no longer available is skipped with a warning. Returns the paths.
    """
    files = []
    storage = Storage(settings)
    recipe = parse_manifest(run.manifest).recipe
    pool = DecoderPool(recipe, settings)
    try:
        for name, title, selected in _list_galleries(labelled, costliest, rows):
            entries = list(_fetch_rows(engine, settings, storage, pool, run, selected, on_warning))
            if entries:
                files.append(out / name)
                _draw(entries, f"{title}: photograph, enhanced image, overlay", files[-1])
    finally:
        pool.close()
    return files


def choose_images(labelled: Labelled, grade: Grade, rows: int) -> Labelled:
    """Return up to `rows` graded images of one reference grade, the largest errors first."""
    graded = labelled.select((labelled.reference == grade) & (labelled.grades != NOT_GRADED))
    return graded.select(np.argsort(-np.abs(graded.grades - graded.reference), kind="stable")[:rows])


def _list_galleries(
    labelled: Labelled, costliest: Mapping[str, Sequence[CostlyImage]], rows: int
) -> Iterator[tuple[str, str, Labelled]]:
    """Yield file name, title and images of each gallery."""
    for grade in Grade:
        yield f"gallery-{grade:d}.png", f"Reference grade {grade:d}", choose_images(labelled, grade, rows)
    indices = {image_id: index for index, image_id in enumerate(labelled.ids.tolist())}
    for cut, images_of_cut in costliest.items():
        selected = np.array([indices[image.image_id] for image in images_of_cut[:rows]], np.int64)
        yield (
            f"costliest-{cut.replace('_', '-')}.png",
            f"Images that cost most {format_name(cut)} AUC",
            labelled.select(selected),
        )


def _fetch_rows(
    engine: Engine,
    settings: Settings,
    storage: Storage,
    pool: DecoderPool,
    run: GradedRun,
    selected: Labelled,
    on_warning: OnWarning,
) -> Iterator[GalleryRow]:
    query = (
        select(gradings.c.image_id, images.c.uri, images.c.sha256, gradings.c.overlay_key, gradings.c.content_sha256)
        .join(images, images.c.image_id == gradings.c.image_id)
        .where(gradings.c.run_id == run.run_id, gradings.c.image_id.in_(selected.ids.tolist()))
    )
    with read_transaction(engine) as connection:
        images_by_id = {row.image_id: row for row in connection.execute(query)}
    for image_id, reference, grade in zip(
        selected.ids.tolist(), selected.reference.tolist(), selected.grades.tolist(), strict=True
    ):
        image = images_by_id[image_id]
        if image.overlay_key is None:
            on_warning(f"{image_id} is not in the gallery: its overlay has expired")
            continue
        try:
            if is_stack_entry(image.uri):
                entry = fetch_stack_entry(
                    storage.sources,
                    image.uri,
                    max_bytes=settings.max_image_bytes,
                    graded_sha256=image.content_sha256,
                )
                recipe = parse_manifest(run.manifest).recipe
                prepared = prepare_stack_entry(entry.data, recipe=recipe, overlay_size_px=settings.overlay_size_px)
            else:
                photograph = fetch_photograph(
                    storage.sources,
                    image.uri,
                    max_bytes=settings.max_image_bytes,
                    sha256=image.sha256,
                    graded_sha256=image.content_sha256,
                )
                prepared = pool.submit(photograph.data).result()
            overlay = matplotlib.image.imread(
                BytesIO(storage.overlays.get(image.overlay_key)), format=_overlay_format(image)
            )
        except (ImageError, Ungradable, ServiceError) as error:
            on_warning(f"{image_id} is not in the gallery: {error.detail}")
        except KeyError:
            on_warning(f"{image_id} is not in the gallery: its overlay is missing")
        else:
            yield GalleryRow(image_id, reference, grade, prepared.canvas, prepared.enhanced, overlay)


def _overlay_format(image: Any) -> str:
    return Path(image.overlay_key).suffix.lstrip(".")


def _draw(entries: list[GalleryRow], title: str, file: Path) -> None:
    with house_style():
        _draw_rows(entries, title, file)


def _draw_rows(entries: list[GalleryRow], title: str, file: Path) -> None:
    figure = Figure(figsize=(3 * IMAGE_INCHES, len(entries) * (IMAGE_INCHES + 0.3) + 0.4), layout="constrained")
    axes = figure.subplots(len(entries), 3, squeeze=False)
    for row, entry in zip(axes, entries, strict=True):
        titles = (entry.image_id, f"enhanced, reference {entry.reference}", f"graded {entry.grade}")
        for axis, pixels, caption in zip(row, (entry.photograph, entry.enhanced, entry.overlay), titles, strict=True):
            axis.imshow(pixels)
            axis.set_axis_off()
            wrong = caption.startswith("graded") and entry.grade != entry.reference
            axis.set_title(caption, fontsize=9, color=VERMILION if wrong else mpl.rcParams["text.color"])
    figure.suptitle(title)
    write_figure(figure, file, dpi=DPI)
