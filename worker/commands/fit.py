"""`fundus model fit`: weights from photographs with reference grades."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from worker.commands.explain_option import Explained, parse_explained
from worker.core.errors import UsageError
from worker.core.settings import read_settings
from worker.core.terminal.progress_bar import progress_bar
from worker.model.bundle.bundle import Manifest, describe_validation_error, load_bundle
from worker.training.examples import hash_file, read_examples
from worker.training.lineage import trace_lineage
from worker.training.plan import Plan
from worker.training.precision import choose_precision

CHECKPOINT_EVERY_S = 120.0
REFERRAL = (1, 2)
"""What the maps of a fitted model explain: of higher outputs they point at lesions less often."""


def fit(
    manifest: Annotated[
        Path, typer.Option(help="CSV or JSON lines with uri, reference_grade and, where known, patient_id.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the fit; the bundle comes to lie in OUT/bundle.")],
    *,
    init: Annotated[
        str | None, typer.Option(metavar="BUNDLE", help="Begin with these weights and their recipe, not random ones.")
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(help="A network of keras.applications, such as MobileNetV2; DenseNet121, or that of --init."),
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Side of the square input in pixels; 224, or that of --init.")
    ] = None,
    sigma: Annotated[
        float | None, typer.Option(help="Standard deviation of graham's blur in pixels of the input; size / 30.")
    ] = None,
    circle: Annotated[
        float | None, typer.Option(help="Radius of the field that is kept, of 1; 0.93, or that of --init.")
    ] = None,
    crop: Annotated[
        Literal["lit_box", "field", "none"] | None,
        typer.Option(help="field: the border becomes a circle, cut off or squashed; lit_box, or that of --init."),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, max=1000, help="Most epochs.")] = 30,
    patience: Annotated[int, typer.Option(min=1, help="Epochs without a better one that end the fit.")] = 10,
    choose_by: Annotated[
        Literal["kappa", "loss"], typer.Option(help="What makes an epoch better, on what judges.")
    ] = "kappa",
    thresholds: Annotated[
        Literal["half", "kappa"],
        typer.Option(help="Of the outputs: 0.5 each, or those with the highest kappa on what was learnt from."),
    ] = "half",
    batch_size: Annotated[int, typer.Option(min=2, max=1024, help="Pictures in one step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="The highest, after the warm-up.")] = 1e-3,
    schedule: Annotated[
        Literal["cosine", "constant"],
        typer.Option(help="How the learning rate goes on: it falls to zero; or stays, and the mean settles."),
    ] = "cosine",
    averaging: Annotated[
        float, typer.Option(min=0, max=0.9999, help="Of the weights' mean, which is kept: what each step leaves of it.")
    ] = 0.995,
    initial_share: Annotated[
        float, typer.Option(min=0, max=0.99, help="Of the weights of --init in the bundle's, beside the best epoch's.")
    ] = 0.0,
    validation_share: Annotated[float, typer.Option(help="Share of the photographs that judge.")] = 0.16,
    balance: Annotated[
        float, typer.Option(min=0, max=1, help="1: grades as they come; 0: each drawn as often as the others.")
    ] = 0.5,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")] = 0,
    precision: Annotated[
        Literal["auto", "bfloat16", "float32"],
        typer.Option(help="auto: bfloat16 where the hardware has it, float32 elsewhere."),
    ] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads; all cores unless given.")] = None,
    explain: Explained = None,
    name: Annotated[str | None, typer.Option(help="The bundle's name; the folder's unless given.")] = None,
    training_data: Annotated[str, typer.Option(help="Where the photographs come from, for the bundle.")] = "",
    licence: Annotated[str, typer.Option(help="On what terms the weights may be used.")] = "not stated",
    half: Annotated[bool, typer.Option("--float16", help="Store kernels as float16, at half the size.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the fit in OUT, exactly.")] = False,
    checkpoint_every: Annotated[float, typer.Option(min=0, help="Seconds between checkpoints.")] = CHECKPOINT_EVERY_S,
    as_json: Annotated[bool, typer.Option("--json", help="Print the bundle's manifest as JSON.")] = False,
) -> None:
    """Fit the network to photographs with reference grades.

    A sixth of them is set apart to judge, by pixels and by patient; the epoch with the best quadratic weighted kappa is
    kept, or with --choose-by the one with the least loss. Pictures go through the worker's own steps, once. OUT keeps
    checkpoint, curves, history and split.

    Examples:

        fundus model fit --manifest eyes.csv --out fit-1

        fundus model fit --manifest eyes.csv --out fit-1 --resume

        fundus model fit --manifest eyes.csv --out fit-2 --init fit-1/bundle --size 320 --learning-rate 2e-4
    """
    # TensorFlow, scikit-learn and Matplotlib are loaded by this command alone.
    from worker.training.experiment import (
        EXCLUDED_FILE,
        LABEL_CONFLICTS_FILE,
        fit_bundle,
        load_or_prepare,
        open_fit_folder,
        split_dataset,
        write_data_issues,
    )
    from worker.training.fit import FitCallbacks
    from worker.training.initialisation import choose_backbone, make_recipe
    from worker.training.trainer import limit_threads

    settings = read_settings()
    messages = Console(stderr=True, highlight=False)
    initial = None if init is None else load_bundle(init)
    if initial is None and initial_share > 0:
        raise UsageError(f"--initial-share {initial_share:g} is of the weights of --init: give it")
    architecture = choose_backbone(initial, backbone)
    limit_threads(threads)
    try:
        plan = Plan(
            manifest_sha256=hash_file(manifest),
            architecture=architecture,
            recipe=make_recipe(initial, architecture, size=size, sigma=sigma, circle=circle, crop=crop),
            initial_model_id=None if initial is None else initial.model_id,
            seed=seed,
            validation_share=validation_share,
            epochs=epochs,
            patience=patience,
            choose_by=choose_by,
            thresholds=thresholds,
            batch_size=batch_size,
            learning_rate=learning_rate,
            schedule=schedule,
            averaging=averaging,
            initial_share=initial_share,
            balance=balance,
            precision=choose_precision() if precision == "auto" else precision,
            threads=threads,
        )
        draft = Manifest(
            name=name or out.resolve().name.lower(),
            architecture=architecture,
            recipe=plan.recipe,
            explained_outputs=parse_explained(explain, otherwise=REFERRAL),
            training_data=training_data,
            licence=licence,
            notes="Not a medical device.",
            weights_sha256="0" * 64,
        )
    except ValidationError as error:
        raise UsageError(describe_validation_error(error)) from error
    lineage = trace_lineage(init, initial)

    def on_warning(sentence: str) -> None:
        messages.print(Text.assemble(("note", "yellow"), ": ", sentence), soft_wrap=True)

    def told(row: dict[str, Any]) -> None:
        messages.print(_tell(row), soft_wrap=True)

    with progress_bar(messages) as progress:
        examples = read_examples(manifest, settings, on_warning)
        open_fit_folder(out, plan, resume=resume)
        preparing = progress.add_task("preparing", total=len(examples))

        def prepared(left_out: int) -> None:
            progress.update(preparing, advance=1, errors=f"{left_out:,} left out" if left_out else "")

        dataset = load_or_prepare(examples, out, plan, settings, prepared)
        contradicted = write_data_issues(dataset, out)
        if dataset.index.left_out:
            on_warning(
                f"{len(dataset.index.left_out):,} photographs cannot be learnt from; {out / EXCLUDED_FILE} says why"
            )
        if contradicted:
            on_warning(
                f"{len(contradicted):,} photographs have another grade where their pixels come again; "
                f"{out / LABEL_CONFLICTS_FILE} lists them"
            )
        validation = split_dataset(dataset, plan)
        progress.remove_task(preparing)
        training = progress.add_task("fitting", total=None)

        def begun(done: int, most: int) -> None:
            progress.reset(training, completed=done, total=most)

        made = fit_bundle(
            plan,
            dataset,
            validation,
            out,
            draft,
            initial=initial,
            lineage=lineage,
            resume=resume,
            float16_kernels=half,
            checkpoint_every_s=checkpoint_every,
            callbacks=FitCallbacks(begun, lambda _loss: progress.advance(training, batch_size), told),
        )
    if made.fit is not None and made.fit.validation_seen != "no":
        on_warning(f"the weights of {init} may have learnt from the validation pictures: the figures prove nothing")
    if as_json:
        typer.echo(json.dumps({"model_id": made.model_id, **made.model_dump(mode="json")}))
    else:
        typer.echo(f"{out / 'bundle'}: {made.name}, model_id {made.model_id}")


def _tell(row: dict[str, Any]) -> str:
    """One epoch on one line."""
    words = {"quadratic_weighted_kappa": "kappa", "accuracy": "accuracy", "referable_auc": "referable AUC"}
    figures = [f"{word} {row[key]:.3f}" for key, word in words.items() if row[key] is not None]
    recalls = "/".join("-" if row[f"recall_grade_{g}"] is None else f"{row[f'recall_grade_{g}']:.2f}" for g in range(5))
    loss = f"loss {row['loss']:.3f}, validation {row['validation_loss']:.3f}"
    return f"epoch {row['epoch']}: {loss}, {', '.join(figures)}, recall {recalls}"
