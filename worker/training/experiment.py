"""From a manifest to a bundle: prepare, set apart, fit, and write down how it was done."""

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
from worker.training.dataset import INDEX_FILE, Dataset, ExcludedImage, prepare_dataset, read_dataset
from worker.training.examples import Example
from worker.training.fit import KAPPA, FitCallbacks, FitResult, find_best_epoch, fit
from worker.training.label_conflicts import LabelConflict, find_label_conflicts
from worker.training.lineage import Lineage
from worker.training.plan import Plan
from worker.training.split import split_groups, write_split

PLAN_FILE, BUNDLE_FOLDER, HISTORY_FILE = "plan.json", "bundle", "history.csv"
EXCLUDED_FILE, LABEL_CONFLICTS_FILE = "left_out.csv", "contradicted.csv"
RECORDED_METRICS = (KAPPA, "accuracy", "referable_auc", *(f"recall_grade_{grade:d}" for grade in Grade))
LIBRARIES = ("keras", "numpy", "tensorflow", "tensorflow-cpu")


def open_fit_folder(folder: Path, plan: Plan, *, resume: bool) -> None:
    """Make the fit's folder, or find the one to go on in.

    Raises UsageError where a fit is there that was not asked to be resumed, or is one of another plan, or is finished.
    """
    file = folder / PLAN_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = file.read_text(encoding="utf-8") if file.exists() else None
        if there is None:
            write_atomically(file, (plan.model_dump_json(indent=2) + "\n").encode())
    except OSError as error:
        raise UsageError(f"cannot write into {folder}: {error.strerror or error}") from error
    if there is None:
        return
    if (folder / BUNDLE_FOLDER).exists():
        raise UsageError(f"{folder} holds a fit that is finished; name a new folder")
    if not resume:
        raise UsageError(f"{folder} holds a fit; go on with --resume, or name a new folder")
    try:
        difference = plan.first_difference(Plan.model_validate_json(there))
    except ValidationError as error:
        raise UsageError(f"{file}: {describe_validation_error(error)}") from error
    if difference is not None:
        raise UsageError(f"{folder} holds a fit of another plan: {difference}")


def load_or_prepare(
    examples: list[Example], folder: Path, plan: Plan, settings: Settings, on_progress: Callable[[int], object]
) -> Dataset:
    """The pictures that an earlier start has prepared, or prepared now; `on_progress` is called after each then."""
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
    """Write which photographs were left out, and which are graded in two ways; the latter."""
    contradicted = find_label_conflicts(dataset.index)
    _write_csv(folder / EXCLUDED_FILE, ExcludedImage, dataset.index.left_out)
    _write_csv(folder / LABEL_CONFLICTS_FILE, LabelConflict, contradicted)
    return contradicted


def split_dataset(dataset: Dataset, plan: Plan) -> NDArray[np.bool_]:
    """Which pictures are for validation. Raises SourceError when a part has fewer than two grades."""
    index = dataset.index
    validation = split_groups(index.pixel_hashes, index.patients, share=plan.validation_share, seed=plan.seed)
    for part, members in (("validation", validation), ("training", ~validation)):
        grades = np.unique(dataset.grades[members])
        if len(grades) < 2:
            raise SourceError(
                f"the {part} part has {int(members.sum())} photographs of {len(grades)} grades; two grades are needed: "
                f"give more photographs, another --seed or another --validation-share than {plan.validation_share:g}"
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
    lineage: Lineage,
    resume: bool,
    float16_kernels: bool,
    checkpoint_every_s: float,
    callbacks: FitCallbacks,
) -> Manifest:
    """Fit, and write the bundle with its split; the manifest that was written.

    draft: what the manifest says apart from the fit and the weights.
    """
    hashes = dataset.index.pixel_hashes
    split = write_split(hashes, validation, trained_before=lineage.trained_on or ())
    first = None if initial is None else initial.weights
    fitted = fit(
        plan,
        dataset,
        validation,
        folder,
        initial=first,
        resume=resume,
        checkpoint_every_s=checkpoint_every_s,
        callbacks=callbacks,
    )
    write_atomically(folder / HISTORY_FILE, _to_csv(list(fitted.history[0]), fitted.history))
    judges = {pixels for pixels, apart in zip(hashes, validation.tolist(), strict=True) if apart}
    record = _record(plan, dataset, validation, split, fitted, seen=lineage.has_seen(judges), lineage=lineage)
    learnt = draft.training_data or f"{sum(record.training):,} photographs with reference grades"
    whole = draft.model_copy(update={"fit": record, "training_data": learnt, "thresholds": fitted.thresholds})
    return write_bundle(
        folder / BUNDLE_FOLDER, whole, fitted.weights, float16_kernels=float16_kernels, extra_files={SPLIT_FILE: split}
    )


def _record(
    plan: Plan,
    dataset: Dataset,
    validation: NDArray[np.bool_],
    split: bytes,
    fitted: FitResult,
    *,
    seen: Literal["no", "yes", "unknown"],
    lineage: Lineage,
) -> FitRecord:
    return FitRecord(
        manifest_sha256=plan.manifest_sha256,
        split_sha256=hashlib.sha256(split).hexdigest(),
        training=_count(dataset.grades[~validation]),
        validation=_count(dataset.grades[validation]),
        left_out=len(dataset.index.left_out),
        initial_model_id=plan.initial_model_id,
        ancestry="unknown" if lineage.trained_on is None else "known",
        validation_seen=seen,
        seed=plan.seed,
        epochs=len(fitted.history),
        best_epoch=find_best_epoch(fitted.history, plan.choose_by),
        chosen_by=None if plan.choose_by == "kappa" else plan.choose_by,
        thresholds=None if plan.thresholds == "half" else plan.thresholds,
        initial_share=plan.initial_share or None,
        batch_size=plan.batch_size,
        learning_rate=plan.learning_rate,
        schedule=None if plan.schedule == "cosine" else plan.schedule,
        weight_decay=plan.weight_decay,
        averaging=plan.averaging,
        balance=plan.balance,
        precision=plan.precision,
        versions=_versions(),
        figures={name: fitted.figures[name] for name in RECORDED_METRICS},
    )


def _count(grades: NDArray[np.int64]) -> ByGrade:
    none, mild, moderate, severe, proliferative = np.bincount(grades, minlength=len(Grade)).tolist()
    return none, mild, moderate, severe, proliferative


def _versions() -> dict[str, str]:
    versions = {}
    for library in LIBRARIES:
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
