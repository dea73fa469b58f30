"""`fundus model calibrate`: write a bundle with another operating point."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from pydantic import ValidationError
from rich.console import Console

from worker.core.errors import UsageError
from worker.core.settings import read_settings
from worker.core.terminal.progress_bar import progress_bar
from worker.core.vocabulary import REFERABLE_FROM, Grade
from worker.ledger.database import connect
from worker.ledger.evidence import read_referable_evidence
from worker.ledger.migrate import require_compatible
from worker.ledger.runs import find_run
from worker.model.bundle.bundle import describe_validation_error, find_bundle
from worker.model.bundle.ensemble import AnyManifest, parse_manifest, read_any_manifest
from worker.model.bundle.writer import copy_bundle
from worker.model.class_activation_maps import measure_evidence_scale

if TYPE_CHECKING:
    from worker.evaluation.calibration import Calibration


class Cut(StrEnum):
    """Decision whose threshold is set: this grade or worse."""

    REFERABLE = "referable"
    VISION_THREATENING = "vision_threatening"
    PROLIFERATIVE = "proliferative"


_GRADES = {
    Cut.REFERABLE: REFERABLE_FROM,
    Cut.VISION_THREATENING: Grade.SEVERE,
    Cut.PROLIFERATIVE: Grade.PROLIFERATIVE,
}


def calibrate(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run of this model, with reference grades.")],
    out: Annotated[Path, typer.Option(help="New folder for the bundle.")],
    *,
    sensitivity: Annotated[float | None, typer.Option(help="Target sensitivity, in (0, 1).")] = None,
    specificity: Annotated[float | None, typer.Option(help="Target specificity, in (0, 1).")] = None,
    cut: Annotated[
        list[Cut],
        typer.Option(help="Decision: referable (from grade 2), vision_threatening (from 3), proliferative (4)."),
    ] = [Cut.REFERABLE],  # noqa: B006 - the framework copies it
    site: Annotated[
        str | None, typer.Option(metavar="NAME", help="Site of the run, recorded in the bundle's threshold rule.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Bundle that graded the run. Default: FUNDUS_MODEL.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the new bundle. Default: the name of the folder.")] = None,
    resamples: Annotated[int, typer.Option(min=100, max=100_000, help="Number of bootstrap resamples.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Calibrate a model on a labelled run: fit its temperature, set thresholds, and write a new bundle.

    The weights are unchanged. The scale of the maps becomes the median evidence of the run's referable images. Use
    images that the model was not trained on.

    Examples:

        fundus model calibrate night-1 --sensitivity 0.9 --out sensitive

        fundus model calibrate clinic-a-1 --site clinic-a --sensitivity 0.92 --out clinic-a

        fundus model calibrate night-1 --specificity 0.95 --cut referable --cut vision_threatening --out strict
    """
    value, metric = _target_metric(sensitivity, specificity)
    # SciPy and scikit-learn are slow to import.
    from worker.evaluation.calibration import calibrate as calibrate_run
    from worker.evaluation.calibration import draw_calibration
    from worker.evaluation.labelled import find_graded_run, read_labelled
    from worker.evaluation.operating_point import Target

    settings = read_settings()
    engine = connect(settings)
    require_compatible(engine)
    graded_run = find_graded_run(engine, run)
    if site is not None and (of_run := find_run(engine, run).site) != site:
        raise UsageError(
            f"run {run} is of {f'site {of_run}' if of_run else 'no site'}, not of {site}; fix: give its own"
        )
    source = find_bundle(model or settings.model)
    manifest = read_any_manifest(source)
    if manifest.model_id != graded_run.model_id:
        graded = f"{graded_run.model_name} ({graded_run.model_id})"
        raise UsageError(f"run {run} was graded by {graded}, not {manifest.name} ({manifest.model_id}): give --model")
    if out.exists():
        raise UsageError(f"{out} exists; choose a new folder")
    target = Target(metric, value, tuple(_GRADES[one] for one in dict.fromkeys(cut)))
    messages = Console(stderr=True)
    with progress_bar(messages, unit="resamples") as progress:
        task = progress.add_task("resampling", total=3 * resamples)
        calibration = calibrate_run(
            graded_run,
            read_labelled(engine, graded_run),
            manifest.thresholds,
            target,
            resamples=resamples,
            seed=seed,
            on_progress=lambda: progress.advance(task),
        )
    changed = _at_operating_point(manifest, calibration, name or out.resolve().name, site)
    evidence = read_referable_evidence(engine, graded_run.run_id)
    scale = measure_evidence_scale([one / calibration.temperature for one in evidence])
    changed = changed.model_copy(update={"evidence_scale": scale})
    copy_bundle(source, out, changed)
    # TensorFlow is slow to import.
    from worker.model.golden_inputs import add_golden_inputs

    add_golden_inputs(out)
    if as_json:
        document = calibration.model_dump(mode="json", by_alias=True)
        typer.echo(json.dumps({"model_id": changed.model_id, "name": changed.name, **document}))
        return
    console = Console(highlight=False)
    console.print(draw_calibration(calibration))
    console.print(f"{out}: {changed.name} ({changed.model_id})")


def _target_metric(
    sensitivity: float | None, specificity: float | None
) -> tuple[float, Literal["sensitivity", "specificity"]]:
    value = sensitivity if sensitivity is not None else specificity
    if value is None or (sensitivity is not None and specificity is not None):
        raise UsageError("give either --sensitivity or --specificity")
    metric: Literal["sensitivity", "specificity"] = "sensitivity" if sensitivity is not None else "specificity"
    if not 0 < value < 1:
        raise UsageError(f"--{metric} {value:g} is not between 0 and 1")
    return value, metric


def _at_operating_point(manifest: AnyManifest, calibration: "Calibration", name: str, site: str | None) -> AnyManifest:
    """Return the manifest with the new operating point and a note of its origin."""
    where = "" if site is None else f" at site {site}"
    rule = f"{calibration.target}, chosen on the {calibration.images} graded images of run {calibration.run}{where}"
    changes = {
        "name": name,
        "temperature": manifest.temperature * calibration.temperature,
        "thresholds": calibration.thresholds,
        "notes": f"{manifest.notes} Operating point: {rule}.".strip(),
        # An earlier rule describes thresholds that are replaced.
        "threshold_rule": rule,
    }
    try:
        return parse_manifest(manifest.model_dump() | changes)
    except ValidationError as error:
        raise UsageError(f"model bundle: {describe_validation_error(error)}") from error
