"""Galleries of photograph, what the network sees and overlay: by reference grade, and of what cost most."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

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
from worker.evaluation.labelled import NOT_GRADED, GradedRun, Labelled
from worker.evaluation.view import format_name
from worker.imaging.sandbox.pool import DecoderPool
from worker.imaging.steps.fetch import fetch_photograph, fetch_stack_entry, is_stack_entry
from worker.imaging.steps.prepare import prepare_stack_entry
from worker.ledger.database import read_transaction
from worker.ledger.schema import gradings, images
from worker.model.bundle.ensemble import parse_manifest

IMAGE_INCHES = 2.3
DPI = 110

OnWarning = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class GalleryRow:
    """One row: three pictures (H, W, 3), uint8 or float in [0, 1], and what is said of them."""

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
    """One PNG for each reference grade that has graded images, the furthest off first, and one for each cut.

    costliest: by cut, where its area was lost. rows: at most so many in each. An image whose photograph or overlay
    can't be had any more is left out, with a remark.
    """
    files = []
    storage = Storage(settings)
    recipe = parse_manifest(run.manifest).recipe
    pool = DecoderPool(recipe, settings)
    try:
        for name, title, wanted in _plan(labelled, costliest, rows):
            panels = list(_fetch(engine, settings, storage, pool, run, wanted, on_warning))
            if panels:
                files.append(out / name)
                _draw(panels, f"{title}: photograph, what the network sees, overlay", files[-1])
    finally:
        pool.close()
    return files


def choose_images(labelled: Labelled, grade: Grade, rows: int) -> Labelled:
    """The images of one reference grade that the model graded, the furthest off first; at most `rows`."""
    mine = labelled.select((labelled.reference == grade) & (labelled.grades != NOT_GRADED))
    return mine.select(np.argsort(-np.abs(mine.grades - mine.reference), kind="stable")[:rows])


def _plan(
    labelled: Labelled, costliest: Mapping[str, Sequence[CostlyImage]], rows: int
) -> Iterator[tuple[str, str, Labelled]]:
    """File, title and images of each gallery."""
    for grade in Grade:
        yield f"gallery-{grade:d}.png", f"Reference grade {grade:d}", choose_images(labelled, grade, rows)
    places = {image_id: place for place, image_id in enumerate(labelled.ids.tolist())}
    for cut, images_of_cut in costliest.items():
        wanted = np.array([places[one.image_id] for one in images_of_cut[:rows]], np.int64)
        yield (
            f"costliest-{cut.replace('_', '-')}.png",
            f"What cost the {format_name(cut)} AUC most",
            labelled.select(wanted),
        )


def _fetch(
    engine: Engine,
    settings: Settings,
    storage: Storage,
    pool: DecoderPool,
    run: GradedRun,
    wanted: Labelled,
    on_warning: OnWarning,
) -> Iterator[GalleryRow]:
    query = (
        select(gradings.c.image_id, images.c.uri, images.c.sha256, gradings.c.overlay_key)
        .join(images, images.c.image_id == gradings.c.image_id)
        .where(gradings.c.run_id == run.run_id, gradings.c.image_id.in_(wanted.ids.tolist()))
    )
    with read_transaction(engine) as connection:
        places = {row.image_id: row for row in connection.execute(query)}
    for image_id, reference, grade in zip(
        wanted.ids.tolist(), wanted.reference.tolist(), wanted.grades.tolist(), strict=True
    ):
        place = places[image_id]
        if place.overlay_key is None:
            on_warning(f"{image_id} is not in the gallery: its overlay was too old to be kept")
            continue
        try:
            if is_stack_entry(place.uri):
                entry = fetch_stack_entry(storage.sources, place.uri, max_bytes=settings.max_image_bytes)
                recipe = parse_manifest(run.manifest).recipe
                prepared = prepare_stack_entry(entry, recipe=recipe, overlay_size_px=settings.overlay_size_px)
            else:
                data = fetch_photograph(
                    storage.sources, place.uri, max_bytes=settings.max_image_bytes, sha256=place.sha256
                )
                prepared = pool.submit(data).result()
            overlay = matplotlib.image.imread(BytesIO(storage.overlays.get(place.overlay_key)), format=_format(place))
        except (ImageError, Ungradable, ServiceError) as error:
            on_warning(f"{image_id} is not in the gallery: {error.detail}")
        except KeyError:
            on_warning(f"{image_id} is not in the gallery: its overlay is gone")
        else:
            yield GalleryRow(image_id, reference, grade, prepared.canvas, prepared.enhanced, overlay)


def _format(place: Any) -> str:
    return Path(place.overlay_key).suffix.lstrip(".")


def _draw(panels: list[GalleryRow], title: str, file: Path) -> None:
    picture = Figure(figsize=(3 * IMAGE_INCHES, len(panels) * (IMAGE_INCHES + 0.3) + 0.4), layout="constrained")
    axes = picture.subplots(len(panels), 3, squeeze=False)
    for row, panel in zip(axes, panels, strict=True):
        titles = (panel.image_id, f"preprocessed, reference {panel.reference}", f"graded {panel.grade}")
        for axis, shown, said in zip(row, (panel.photograph, panel.enhanced, panel.overlay), titles, strict=True):
            axis.imshow(shown)
            axis.set_axis_off()
            wrong = said.startswith("graded") and panel.grade != panel.reference
            axis.set_title(said, fontsize=7, color="#B00020" if wrong else "black")
    picture.suptitle(title, fontsize=10)
    picture.savefig(file, dpi=DPI)
