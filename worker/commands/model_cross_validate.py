"""`fundus model cross-validate`: measure a recipe on sources that it was not fitted to."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from worker.commands.recipe_options import FitBackend, FitPrecision, MixAmplitudes, SmoothLabels, TrainFrom
from worker.core.errors import UsageError
from worker.core.settings import read_settings
from worker.core.storage.atomic_write import write_atomically
from worker.core.terminal.output import print_note, stderr_console
from worker.core.terminal.progress_bar import progress_bar
from worker.model.bundle.bundle import describe_validation_error, load_bundle
from worker.training.examples import hash_file, read_examples
from worker.training.plan import Plan
from worker.training.precision import choose_precision

if TYPE_CHECKING:
    from worker.training.cross_validation import SourceResult
    from worker.training.fit import FitCallbacks

RESULTS_FILE = "cross_validation.json"
CHECKPOINT_EVERY_S = 120.0


def cross_validate(
    manifest: Annotated[Path, typer.Option(help="CSV or JSON lines with uri, reference_grade, source and patient_id.")],
    out: Annotated[Path, typer.Option(help="Folder of the fits; run the command again to continue.")],
    *,
    by: Annotated[Literal["source"], typer.Option(help="What is left out in turn.")] = "source",
    init: Annotated[
        str | None,
        typer.Option(metavar="BUNDLE", help="Start from these weights; they must not know the sources."),
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="Network, as for `fundus model fit`.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the square input in pixels.")] = None,
    epochs: Annotated[int, typer.Option(min=1, max=1000, help="Number of epochs of each fit.")] = 5,
    batch_size: Annotated[int, typer.Option(min=2, max=1024, help="Images in one training step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate, after the warm-up.")] = 1e-3,
    balance: Annotated[float, typer.Option(min=0, max=1, help="Balance of grades, as for `fundus model fit`.")] = 0.5,
    train_from: TrainFrom = None,
    mix_amplitudes: MixAmplitudes = 0.0,
    smooth_labels: SmoothLabels = 0.0,
    limit: Annotated[
        int | None, typer.Option(min=20, help="Largest number of photographs of a source, for a first look.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split and of all random numbers.")] = 0,
    precision: FitPrecision = "auto",
    backend: FitBackend = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Leave each source out in turn, fit to the others, and measure on it: what a new camera may expect.

    Epoch and thresholds (the rule for screening) are chosen on the other sources. Compare recipes by this table alone:
    figures on the sources of a fit are higher. An interrupted run continues where it stopped.

    Examples:

        fundus model cross-validate --manifest eyes.csv --out cv --init ./imagenet --precision float32

        fundus model cross-validate --manifest eyes.csv --out look --size 128 --epochs 2 --limit 400
    """
    # TensorFlow, JAX and scikit-learn are slow to import.
    from worker.training.trainer import choose_backend, prepare_backend

    chosen_backend = choose_backend() if backend == "auto" else backend
    prepare_backend(chosen_backend, None)
    from worker.training.cross_validation import average_results
    from worker.training.cross_validation import cross_validate as cross_validate_sources
    from worker.training.experiment import load_or_prepare, open_fit_folder
    from worker.training.fit import FitCallbacks
    from worker.training.initialisation import choose_backbone, make_recipe

    settings, messages = read_settings(), stderr_console()
    initial = None if init is None else load_bundle(init)
    architecture = choose_backbone(initial, backbone)
    try:
        plan = Plan(
            manifest_sha256=hash_file(manifest),
            architecture=architecture,
            recipe=make_recipe(initial, architecture, size=size, sigma=None, circle=None, crop=None),
            initial_model_id=None if initial is None else initial.model_id,
            seed=seed,
            epochs=epochs,
            choose_by="loss",
            thresholds="screening",
            batch_size=batch_size,
            learning_rate=learning_rate,
            balance=balance,
            trained_from=train_from,
            amplitude_mixing=mix_amplitudes,
            label_smoothing=smooth_labels,
            backend=chosen_backend,
            precision=choose_precision() if precision == "auto" else precision,
            images_per_source=limit,
        )
    except ValidationError as error:
        raise UsageError(describe_validation_error(error)) from error
    with progress_bar(messages) as progress:
        examples = read_examples(
            manifest,
            settings,
            lambda sentence: print_note(sentence, messages),
        )
        open_fit_folder(out, plan, resume=True)
        preparing = progress.add_task("preparing", total=len(examples))
        dataset = load_or_prepare(
            examples, out, plan, settings, lambda _left_out: progress.update(preparing, advance=1)
        )
        progress.remove_task(preparing)

        def callbacks(source: str) -> "FitCallbacks":
            task = progress.add_task(f"without {source}", total=None)
            return FitCallbacks(
                lambda done, most: progress.reset(task, completed=done, total=most),
                lambda _loss: progress.advance(task, batch_size),
            )

        results = cross_validate_sources(
            plan,
            dataset,
            out,
            initial=None if initial is None else initial.weights,
            checkpoint_every_s=CHECKPOINT_EVERY_S,
            callbacks=callbacks,
        )
    document = {"by": by, "limit": limit, "sources": results, "mean": average_results(results)}
    write_atomically(out / RESULTS_FILE, (json.dumps(document, indent=2) + "\n").encode())
    if as_json:
        typer.echo(json.dumps(document))
        return
    Console(highlight=False).print(_draw(results, average_results(results)))


def _draw(results: "dict[str, SourceResult]", means: "SourceResult") -> Table:
    from worker.evaluation.view import plain_table

    table = plain_table("left out", "images", *(metric.replace("_", " ") for metric in means))
    for source, result in [*results.items(), ("mean", means)]:
        values = [result[metric] for metric in means]
        count = result.get("images")
        cells = ("-" if value is None else f"{value:.3f}" for value in values)
        table.add_row(source, "" if count is None else f"{count:,.0f}", *cells)
    return table
