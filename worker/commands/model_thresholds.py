"""`fundus model thresholds`: write a bundle with thresholds for screening."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from pydantic import ValidationError
from rich.console import Console

from worker.core.errors import UsageError
from worker.core.settings import read_settings
from worker.core.terminal.output import print_note, stderr_console
from worker.core.terminal.progress_bar import progress_bar
from worker.model.bundle.bundle import describe_validation_error, find_bundle
from worker.model.bundle.ensemble import AnyManifest, load_model, parse_manifest
from worker.model.bundle.writer import copy_bundle
from worker.model.ordinal import Thresholds

if TYPE_CHECKING:
    from worker.evaluation.screening_thresholds import ScreeningRule

_SHOWN = ("referable_auc", "referable_sensitivity", "referable_specificity", "quadratic_weighted_kappa")


def thresholds(
    bundle: Annotated[str, typer.Argument(help="Name of a shipped bundle, or a folder.")],
    validation: Annotated[
        Path, typer.Option(help="Manifest with reference_grade and source; the bundle's training set is excluded.")
    ],
    out: Annotated[Path, typer.Option(help="New folder for the bundle.")],
    *,
    sensitivity: Annotated[float, typer.Option(help="Least referable sensitivity on each source.")] = 0.90,
    specificity: Annotated[float, typer.Option(help="Referable specificity below which no source may fall.")] = 0.80,
    name: Annotated[str | None, typer.Option(help="Name of the new bundle. Default: the name of the folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Choose thresholds for screening on held-out photographs of several sources, and write a new bundle.

    Referable DR (grade 2 or worse) comes first: its threshold is the highest that gives every source the sensitivity,
    unless the specificity of a source would be too low. The other thresholds have the highest kappa, averaged over the
    sources. The weights are unchanged.

    Examples:

        fundus model thresholds fit-1/bundle --validation eyes.csv --out screening

        fundus model thresholds ./both --validation eyes.csv --out strict --sensitivity 0.85 --specificity 0.90
    """
    # SciPy and scikit-learn are slow to import.
    from worker.evaluation.labelled import NOT_GRADED
    from worker.evaluation.screening_thresholds import ScreeningRule, choose_screening_thresholds
    from worker.evaluation.view import plain_table
    from worker.model.engines.factory import make_engine
    from worker.model.golden_inputs import add_golden_inputs
    from worker.model_card.held_out_grading import grade_held_out
    from worker.training.lineage import trace_lineage
    from worker.training.validation import SOURCE_MEAN, validate

    for option, value in (("--sensitivity", sensitivity), ("--specificity", specificity)):
        if not 0 < value < 1:
            raise UsageError(f"{option} {value:g} is not between 0 and 1")
    if out.exists():
        raise UsageError(f"{out} exists; choose a new folder")
    settings, messages = read_settings(), stderr_console()
    loaded = load_model(bundle)
    engine = make_engine(settings.engine, loaded)

    def on_warning(sentence: str) -> None:
        print_note(sentence, messages)

    with progress_bar(messages) as progress:
        task = progress.add_task("grading", total=None)
        held_out = grade_held_out(
            validation,
            engine,
            trace_lineage(bundle, loaded),
            settings,
            on_warning=on_warning,
            on_progress=lambda: progress.advance(task),
        )
    if held_out.excluded_as_trained is None:
        on_warning(f"the training set of {loaded.name} is unknown: some of these photographs may be in it")
    graded = held_out.images.grades != NOT_GRADED
    images, sources = held_out.images.select(graded), held_out.sources[graded]
    rule = ScreeningRule(sensitivity, specificity)
    chosen = choose_screening_thresholds(images.probabilities, images.reference, sources, rule)
    changed = _with_thresholds(loaded.manifest, chosen, rule, sources.tolist(), name or out.resolve().name)
    copy_bundle(find_bundle(bundle), out, changed)
    add_golden_inputs(out)
    metrics = validate(images.probabilities.astype(np.float32), images.reference, sources, chosen)
    prefixes = {source: f"{source}/" for source in np.unique(sources).tolist() if source} | {"mean": SOURCE_MEAN}
    figures = {row: {name: metrics[f"{prefix}{name}"] for name in _SHOWN} for row, prefix in prefixes.items()}
    if as_json:
        document = {"thresholds": chosen, "threshold_rule": changed.threshold_rule, "figures": figures}
        typer.echo(json.dumps({"model_id": changed.model_id, "name": changed.name, **document}))
        return
    table = plain_table("source", "images", *(name.replace("_", " ") for name in _SHOWN))
    for row, values in figures.items():
        count = int((sources == row).sum()) or len(sources)
        table.add_row(row, f"{count:,}", *("-" if value is None else f"{value:.3f}" for value in values.values()))
    console = Console(highlight=False)
    console.print(table)
    console.print(f"thresholds {', '.join(f'{one:.2f}' for one in chosen)}: {rule}")
    console.print(f"{out}: {changed.name} ({changed.model_id})")


def _with_thresholds(
    manifest: AnyManifest, chosen: Thresholds, rule: "ScreeningRule", sources: list[str], name: str
) -> AnyManifest:
    named = ", ".join(source or "(none)" for source in sorted(set(sources)))
    text = f"{rule}; chosen on {len(sources):,} held-out photographs of {named}"
    try:
        return parse_manifest(manifest.model_dump() | {"name": name, "thresholds": chosen, "threshold_rule": text})
    except ValidationError as error:
        raise UsageError(f"model bundle: {describe_validation_error(error)}") from error
