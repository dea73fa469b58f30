"""`fundus model calibrate`: a bundle with another operating point."""

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
from worker.ledger.migrate import require_compatible
from worker.model.bundle.bundle import describe_validation_error, find_bundle
from worker.model.bundle.ensemble import AnyManifest, parse_manifest, read_any_manifest
from worker.model.bundle.writer import copy_bundle

if TYPE_CHECKING:
    from worker.evaluation.calibration import Calibration


class Cut(StrEnum):
    """What a programme decides on."""

    REFERABLE = "referable"
    VISION_THREATENING = "vision_threatening"
    PROLIFERATIVE = "proliferative"


_GRADES = {
    Cut.REFERABLE: REFERABLE_FROM,
    Cut.VISION_THREATENING: Grade.SEVERE,
    Cut.PROLIFERATIVE: Grade.PROLIFERATIVE,
}


def calibrate(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run of this model, with reference grades.")],
    out: Annotated[Path, typer.Option(help="New folder for the bundle.")],
    *,
    sensitivity: Annotated[float | None, typer.Option(help="Wanted sensitivity, in (0, 1).")] = None,
    specificity: Annotated[float | None, typer.Option(help="Wanted specificity, in (0, 1).")] = None,
    cut: Annotated[
        list[Cut],
        typer.Option(help="Of which call: referable (from grade 2), vision_threatening (from 3), proliferative (4)."),
    ] = [Cut.REFERABLE],  # noqa: B006 - the framework copies it
    model: Annotated[
        str | None, typer.Option(help="The bundle that graded the run; FUNDUS_MODEL unless given.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The new bundle's name; the folder's unless given.")] = None,
    resamples: Annotated[int, typer.Option(min=100, max=100_000, help="Of the bootstrap.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Scale a model's outputs to what the reference grades say, set its thresholds, and write it as a new bundle.

    The weights stay as they are. Choose on images that the model was not trained on.

    Examples:

        fundus model calibrate night-1 --sensitivity 0.9 --out sensitive

        fundus model calibrate night-1 --specificity 0.95 --cut referable --cut vision_threatening --out strict
    """
    value, figure = _wanted_figure(sensitivity, specificity)
    # SciPy and scikit-learn are loaded only by the command that needs them.
    from worker.evaluation.calibration import calibrate as calibrate_run
    from worker.evaluation.calibration import draw_calibration
    from worker.evaluation.labelled import find_graded_run, read_labelled
    from worker.evaluation.operating_point import Target

    settings = read_settings()
    engine = connect(settings)
    require_compatible(engine)
    found = find_graded_run(engine, run)
    source = find_bundle(model or settings.model)
    manifest = read_any_manifest(source)
    if manifest.model_id != found.model_id:
        graded = f"{found.model_name} ({found.model_id})"
        raise UsageError(f"run {run} was graded by {graded}, not {manifest.name} ({manifest.model_id}): give --model")
    if out.exists():
        raise UsageError(f"{out} exists; name a new folder")
    wanted = Target(figure, value, tuple(_GRADES[one] for one in dict.fromkeys(cut)))
    messages = Console(stderr=True)
    with progress_bar(messages, unit="resamples") as progress:
        task = progress.add_task("resampling", total=3 * resamples)
        calibration = calibrate_run(
            found,
            read_labelled(engine, found),
            manifest.thresholds,
            wanted,
            resamples=resamples,
            seed=seed,
            on_progress=lambda: progress.advance(task),
        )
    changed = _move(manifest, calibration, name or out.resolve().name)
    copy_bundle(source, out, changed)
    if as_json:
        document = calibration.model_dump(mode="json")
        typer.echo(json.dumps({"model_id": changed.model_id, "name": changed.name, **document}))
        return
    console = Console(highlight=False)
    console.print(draw_calibration(calibration))
    console.print(f"{out}: {changed.name} ({changed.model_id})")


def _wanted_figure(
    sensitivity: float | None, specificity: float | None
) -> tuple[float, Literal["sensitivity", "specificity"]]:
    value = sensitivity if sensitivity is not None else specificity
    if value is None or (sensitivity is not None and specificity is not None):
        raise UsageError("give either --sensitivity or --specificity")
    figure: Literal["sensitivity", "specificity"] = "sensitivity" if sensitivity is not None else "specificity"
    if not 0 < value < 1:
        raise UsageError(f"--{figure} {value:g} is not between 0 and 1")
    return value, figure


def _move(manifest: AnyManifest, found: "Calibration", name: str) -> AnyManifest:
    """The manifest at the new operating point, with a note of where that comes from."""
    note = f"Operating point: {found.wanted}, chosen on the {found.images} graded images of run {found.run}."
    changes = {
        "name": name,
        "temperature": manifest.temperature * found.temperature,
        "thresholds": found.thresholds,
        "notes": f"{manifest.notes} {note}".strip(),
    }
    try:
        return parse_manifest(manifest.model_dump() | changes)
    except ValidationError as error:
        raise UsageError(f"model bundle: {describe_validation_error(error)}") from error
