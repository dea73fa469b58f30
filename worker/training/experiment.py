"""Run a fit from manifest to bundle: prepare the images, split them, train, and record how the weights were made."""

import csv
import hashlib
import io
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from worker.core.errors import SourceError, UsageError
from worker.core.settings import Settings
from worker.core.storage.atomic_write import write_atomically
from worker.core.vocabulary import Grade
from worker.model.bundle.bundle import Bundle, Manifest, describe_validation_error
from worker.model.bundle.fit_record import SPLIT_FILE, ByGrade, FitRecord
from worker.model.bundle.writer import write_bundle
from worker.model.network.backend import Backend
from worker.training.dataset import INDEX_FILE, UNGRADED, Dataset, ExcludedImage, prepare_dataset, read_dataset
from worker.training.examples import Example
from worker.training.fit import KAPPA, FitCallbacks, FitResult, find_best_epoch, fit
from worker.training.label_conflicts import LabelConflict, find_label_conflicts
from worker.training.lineage import Lineage
from worker.training.plan import Plan
from worker.training.split import Split, split_groups, write_split

PLAN_FILE, BUNDLE_FOLDER, HISTORY_FILE = "plan.json", "bundle", "history.csv"
EXCLUDED_FILE, LABEL_CONFLICTS_FILE = "left_out.csv", "contradicted.csv"
RECORDED_METRICS = (KAPPA, "accuracy", "referable_auc", *(f"recall_grade_{grade:d}" for grade in Grade))
LIBRARIES = ("keras", "numpy")
BACKEND_LIBRARIES: dict[Backend, tuple[str, ...]] = {"jax": ("jax",), "tensorflow": ("tensorflow", "tensorflow-cpu")}


def open_fit_folder(folder: Path, plan: Plan, *, resume: bool) -> None:
    """Create the folder of a fit with its plan, or open it to resume.

    Raises UsageError if the folder cannot be written, or holds a fit that is finished, has a different plan, or was not
    to be resumed.
    """
    file = folder / PLAN_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stored = file.read_text(encoding="utf-8") if file.exists() else None
        if stored is None:
            write_atomically(file, plan.to_json().encode())
    except OSError as error:
        raise UsageError(f"cannot write into {folder}: {error.strerror or error}") from error
    if stored is None:
        return
    if (folder / BUNDLE_FOLDER).exists():
        raise UsageError(f"{folder} holds a finished fit; choose a new folder")
    if not resume:
        raise UsageError(f"{folder} holds an unfinished fit; continue it with --resume, or choose a new folder")
    try:
        difference = plan.first_difference(Plan.model_validate_json(stored))
    except ValidationError as error:
        raise UsageError(f"{file}: {describe_validation_error(error)}") from error
    if difference is not None:
        raise UsageError(f"{folder} holds a fit with a different plan: {difference}")


def load_or_prepare(
    examples: list[Example], folder: Path, plan: Plan, settings: Settings, on_progress: Callable[[int], object]
) -> Dataset:
    """Load the dataset if an earlier start has prepared it; otherwise prepare it, see `prepare_dataset`."""
    if (folder / INDEX_FILE).exists():
        return read_dataset(folder)
    return prepare_dataset(
        examples,
        folder,
        recipe=plan.recipe,
        manifest_sha256=plan.manifest_sha256,
        settings=settings,
        on_progress=on_progress,
    )


def write_data_issues(dataset: Dataset, folder: Path) -> list[LabelConflict]:
    """Write `left_out.csv` and `contradicted.csv`; return the label conflicts."""
    conflicts = find_label_conflicts(dataset.index)
    _write_csv(folder / EXCLUDED_FILE, ExcludedImage, dataset.index.left_out)
    _write_csv(folder / LABEL_CONFLICTS_FILE, LabelConflict, conflicts)
    return conflicts


def split_dataset(dataset: Dataset, plan: Plan) -> NDArray[np.bool_]:
    """Return which images are held out, bool (N,); those of them with a grade are for validation.

    Raises SourceError if a part has fewer than two grades.
    """
    index = dataset.index
    validation = split_groups(index.pixel_hashes, index.patients, share=plan.validation_share, seed=plan.seed)
    graded = dataset.grades != UNGRADED
    for part, members in (("validation", validation & graded), ("training", ~validation & graded)):
        grades = np.unique(dataset.grades[members])
        if len(grades) < 2:
            raise SourceError(
                f"the {part} part has {int(members.sum())} photographs of {len(grades)} grades; two grades are needed: "
                f"add photographs, or change --seed or --validation-share (now {plan.validation_share:g})"
            )
    return validation


def fit_bundle(
    plan: Plan,
    dataset: Dataset,
    validation: NDArray[np.bool_],
    folder: Path,
    draft: Manifest,
    *,
    initial: Bundle | None,
    taught: NDArray[np.float32] | None,
    lineage: Lineage,
    resume: bool,
    float16_kernels: bool,
    checkpoint_every_s: float,
    callbacks: FitCallbacks,
) -> Manifest:
    """Fit a model, write its bundle with `split.csv`, and return the manifest of the bundle.

    draft: manifest without the fields that depend on the fit and its weights. taught: probabilities by the teacher, see
    `fit`. lineage: that of the initial weights and of the teacher.
    """
    hashes = dataset.index.pixel_hashes
    split = write_split(hashes, validation, trained_before=lineage.trained_on or ())
    graded = dataset.grades != UNGRADED
    usable = graded if taught is None else graded | ~np.isnan(taught).any(axis=1)
    first = None if initial is None else initial.weights
    result = fit(
        plan,
        dataset,
        Split(np.flatnonzero(~validation & usable), np.flatnonzero(validation & graded)),
        folder,
        initial=first,
        taught=taught,
        resume=resume,
        checkpoint_every_s=checkpoint_every_s,
        callbacks=callbacks,
    )
    write_atomically(folder / HISTORY_FILE, _to_csv(list(result.history[0]), result.history))
    validation_hashes = {pixels for pixels, held_out in zip(hashes, validation.tolist(), strict=True) if held_out}
    record = _make_record(
        plan, dataset, validation, usable, split, result, seen=lineage.has_seen(validation_hashes), lineage=lineage
    )
    training_data = draft.training_data or f"{sum(record.training):,} photographs with reference grades"
    manifest = draft.model_copy(update={"fit": record, "training_data": training_data, "thresholds": result.thresholds})
    return write_bundle(
        folder / BUNDLE_FOLDER,
        manifest,
        result.weights,
        float16_kernels=float16_kernels,
        extra_files={SPLIT_FILE: split},
    )


def _make_record(
    plan: Plan,
    dataset: Dataset,
    validation: NDArray[np.bool_],
    usable: NDArray[np.bool_],
    split: bytes,
    result: FitResult,
    *,
    seen: Literal["no", "yes", "unknown"],
    lineage: Lineage,
) -> FitRecord:
    return FitRecord(
        manifest_sha256=plan.manifest_sha256,
        split_sha256=hashlib.sha256(split).hexdigest(),
        training=_count_by_grade(dataset.grades[~validation]),
        validation=_count_by_grade(dataset.grades[validation]),
        left_out=len(dataset.index.left_out),
        initial_model_id=plan.initial_model_id,
        ancestry="unknown" if lineage.trained_on is None else "known",
        validation_seen=seen,
        seed=plan.seed,
        epochs=len(result.history),
        best_epoch=find_best_epoch(result.history, plan.choose_by),
        chosen_by=None if plan.choose_by == "kappa" else plan.choose_by,
        thresholds=None if plan.thresholds == "half" else plan.thresholds,
        initial_share=plan.interpolation_share or None,
        batch_size=plan.batch_size,
        learning_rate=plan.learning_rate,
        schedule=None if plan.schedule == "cosine" else plan.schedule,
        trained_from=plan.trained_from,
        amplitude_mixing=plan.amplitude_mixing or None,
        label_smoothing=plan.label_smoothing or None,
        teacher_model_id=plan.teacher_model_id,
        teacher_share=plan.teacher_share or None,
        ungraded=int((~validation & usable & (dataset.grades == UNGRADED)).sum()) or None,
        weight_decay=plan.weight_decay,
        averaging=plan.ema_decay,
        balance=plan.balance,
        precision=plan.precision,
        versions=_library_versions(plan.backend),
        figures={name: result.metrics[name] for name in RECORDED_METRICS},
    )


def _count_by_grade(grades: NDArray[np.int64]) -> ByGrade:
    none, mild, moderate, severe, proliferative = np.bincount(grades[grades != UNGRADED], minlength=len(Grade)).tolist()
    return none, mild, moderate, severe, proliferative


def _library_versions(backend: Backend) -> dict[str, str]:
    versions = {}
    for library in (*LIBRARIES, *BACKEND_LIBRARIES[backend]):
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            continue
    return versions


def _write_csv(file: Path, kind: type[BaseModel], entries: Sequence[BaseModel]) -> None:
    write_atomically(file, _to_csv(list(kind.model_fields), [entry.model_dump() for entry in entries]))


def _to_csv(columns: list[str], rows: list[dict[str, Any]]) -> bytes:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()
