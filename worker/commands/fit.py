"""`fundus model fit`: train a model on photographs with reference grades."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import ValidationError

from worker.commands.explain_option import Explained, parse_explained
from worker.commands.recipe_options import FitBackend, FitPrecision, MixAmplitudes, SmoothLabels, TrainFrom
from worker.core.errors import UsageError
from worker.core.settings import read_settings
from worker.core.terminal.output import print_note, stderr_console
from worker.core.terminal.progress_bar import progress_bar
from worker.model.bundle.bundle import Manifest, describe_validation_error, load_bundle
from worker.model.bundle.ensemble import load_model
from worker.training.examples import hash_file, read_examples
from worker.training.lineage import trace_lineage
from worker.training.plan import Plan
from worker.training.precision import choose_precision

CHECKPOINT_EVERY_S = 120.0
REFERRAL = (1, 2)
"""Outputs that the saliency maps of a fitted model explain; maps of higher outputs point at lesions less often."""


def fit(
    manifest: Annotated[
        Path, typer.Option(help="CSV or JSON lines with uri, reference_grade and, if known, patient_id and source.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the fit; the bundle is written to OUT/bundle.")],
    *,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="BUNDLE", help="Start from the weights and recipe of this bundle instead of random weights."
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="Network of keras.applications, or EfficientNetLite0 to 4. Default: that of --init, else DenseNet121."
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Side of the square input in pixels. Default: that of --init, else 224.")
    ] = None,
    sigma: Annotated[
        float | None,
        typer.Option(
            help="Standard deviation of the graham blur in input pixels. Default: that of --init, else size / 30."
        ),
    ] = None,
    circle: Annotated[
        float | None,
        typer.Option(help="Fraction of the field's radius that is kept. Default: that of --init, else 0.93."),
    ] = None,
    crop: Annotated[
        Literal["lit_box", "field", "none"] | None,
        typer.Option(help="Crop; `field` restores a cut or squeezed circle. Default: that of --init, else lit_box."),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, max=1000, help="Largest number of epochs.")] = 30,
    patience: Annotated[int, typer.Option(min=1, help="Stop after this many epochs without improvement.")] = 10,
    choose_by: Annotated[
        Literal["kappa", "loss", "auc"],
        typer.Option(help="Validation metric, averaged over the sources, that selects the best epoch."),
    ] = "kappa",
    thresholds: Annotated[
        Literal["half", "kappa", "screening"],
        typer.Option(
            help="Thresholds of the outputs: half is 0.5 each, kappa those with the highest kappa on the training set,"
            " screening those of `fundus model thresholds` on the validation set."
        ),
    ] = "half",
    batch_size: Annotated[int, typer.Option(min=2, max=1024, help="Images in one training step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate, after the warm-up.")] = 1e-3,
    schedule: Annotated[
        Literal["cosine", "constant"],
        typer.Option(help="Learning rate after the warm-up: cosine decay to zero, or constant."),
    ] = "cosine",
    averaging: Annotated[
        float,
        typer.Option(
            min=0, max=0.9999, help="Decay per step of the moving average of the weights; the average is what is kept."
        ),
    ] = 0.995,
    initial_share: Annotated[
        float,
        typer.Option(
            min=0,
            max=0.99,
            help="Interpolate final weights with those of --init: 0 is the best epoch alone, 0.5 the mean of both.",
        ),
    ] = 0.0,
    train_from: TrainFrom = None,
    mix_amplitudes: MixAmplitudes = 0.0,
    smooth_labels: SmoothLabels = 0.0,
    teacher: Annotated[
        str | None,
        typer.Option(
            metavar="BUNDLE",
            help="Learn this model's probabilities with the grades, and alone where a photograph has no grade.",
        ),
    ] = None,
    teacher_share: Annotated[
        float, typer.Option(min=0, max=1, help="Weight of the teacher where a photograph has a grade.")
    ] = 0.5,
    validation_share: Annotated[float, typer.Option(help="Share of the photographs held out for validation.")] = 0.16,
    balance: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="How often rare grades of a source are drawn: 1 as often as they occur, 0 as often as all others.",
        ),
    ] = 0.5,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split and of all random numbers.")] = 0,
    precision: FitPrecision = "auto",
    backend: FitBackend = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads. Default: one for each usable core.")] = None,
    explain: Explained = None,
    name: Annotated[str | None, typer.Option(help="Name of the bundle. Default: the name of the folder.")] = None,
    training_data: Annotated[str, typer.Option(help="Origin of the photographs, recorded in the bundle.")] = "",
    licence: Annotated[str, typer.Option(help="Licence of the weights, recorded in the bundle.")] = "not stated",
    half: Annotated[bool, typer.Option("--float16", help="Store kernels as float16: half the file size.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the interrupted fit in OUT, with identical results.")
    ] = False,
    checkpoint_every: Annotated[float, typer.Option(min=0, help="Seconds between checkpoints.")] = CHECKPOINT_EVERY_S,
    as_json: Annotated[bool, typer.Option("--json", help="Print the bundle's manifest as JSON.")] = False,
) -> None:
    """Train a network on photographs with reference grades.

    About a sixth of the photographs is held out for validation; photographs of one patient or with the same pixels stay
    together. The epoch with the highest quadratic weighted kappa is kept, or that of --choose-by.
    Images are prepared by the same steps as in the worker. OUT holds checkpoint, curves, history and bundle.

    Examples:

        fundus model fit --manifest eyes.csv --out fit-1

        fundus model fit --manifest eyes.csv --out fit-1 --resume

        fundus model fit --manifest eyes.csv --out fit-2 --init fit-1/bundle --size 320 --learning-rate 2e-4

        fundus model fit --manifest eyes.csv --out fit-3 --init fit-1/bundle --teacher ./both
    """
    # TensorFlow, JAX, scikit-learn and Matplotlib are slow to import.
    from worker.training.trainer import choose_backend, prepare_backend

    chosen_backend = choose_backend() if backend == "auto" else backend
    prepare_backend(chosen_backend, threads)
    from worker.model.engines.factory import make_engine
    from worker.model.golden_inputs import add_golden_inputs
    from worker.training.experiment import (
        BUNDLE_FOLDER,
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
    from worker.training.teacher import load_or_grade

    settings = read_settings()
    messages = stderr_console()
    initial = None if init is None else load_bundle(init)
    if initial is None and initial_share > 0:
        raise UsageError(f"--initial-share {initial_share:g} needs --init")
    teaching = None if teacher is None else load_model(teacher)
    architecture = choose_backbone(initial, backbone)
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
            ema_decay=averaging,
            interpolation_share=initial_share,
            balance=balance,
            trained_from=train_from,
            amplitude_mixing=mix_amplitudes,
            label_smoothing=smooth_labels,
            teacher_model_id=None if teaching is None else teaching.model_id,
            teacher_share=0.0 if teaching is None else teacher_share,
            backend=chosen_backend,
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
    lineage = trace_lineage(init, initial) | trace_lineage(teacher, teaching)

    def on_warning(sentence: str) -> None:
        print_note(sentence, messages)

    def print_epoch(metrics: dict[str, Any]) -> None:
        messages.print(_format_epoch(metrics), soft_wrap=True)

    with progress_bar(messages) as progress:
        examples = read_examples(manifest, settings, on_warning, with_ungraded=teaching is not None)
        open_fit_folder(out, plan, resume=resume)
        preparing = progress.add_task("preparing", total=len(examples))

        def on_prepared(left_out: int) -> None:
            progress.update(preparing, advance=1, errors=f"{left_out:,} left out" if left_out else "")

        dataset = load_or_prepare(examples, out, plan, settings, on_prepared)
        conflicts = write_data_issues(dataset, out)
        if dataset.index.left_out:
            on_warning(
                f"{len(dataset.index.left_out):,} photographs are excluded; {out / EXCLUDED_FILE} gives the reasons"
            )
        if conflicts:
            on_warning(
                f"{len(conflicts):,} photographs have different grades for identical pixels; "
                f"{out / LABEL_CONFLICTS_FILE} lists them"
            )
        validation = split_dataset(dataset, plan)
        progress.remove_task(preparing)
        taught = None
        if teaching is not None:
            grading = progress.add_task("grading by the teacher", total=len(dataset.index.image_ids))
            taught = load_or_grade(
                examples,
                dataset.index,
                out,
                lambda: make_engine(settings.engine, teaching),
                settings,
                lambda: progress.advance(grading),
            )
            progress.remove_task(grading)
        training = progress.add_task("fitting", total=None)

        def on_start(done: int, most: int) -> None:
            progress.reset(training, completed=done, total=most)

        made = fit_bundle(
            plan,
            dataset,
            validation,
            out,
            draft,
            initial=initial,
            taught=taught,
            lineage=lineage,
            resume=resume,
            float16_kernels=half,
            checkpoint_every_s=checkpoint_every,
            callbacks=FitCallbacks(on_start, lambda _loss: progress.advance(training, batch_size), print_epoch),
        )
    made = made.model_copy(update={"golden_sha256": add_golden_inputs(out / BUNDLE_FOLDER).golden_sha256})
    if made.fit is not None and made.fit.validation_seen != "no":
        source = " or ".join(ref for ref in (init, teacher) if ref is not None)
        on_warning(f"{source} may have been trained on validation images: the metrics are not valid")
    if as_json:
        typer.echo(json.dumps({"model_id": made.model_id, **made.model_dump(mode="json")}))
    else:
        typer.echo(f"{out / 'bundle'}: {made.name}, model_id {made.model_id}")


def _format_epoch(metrics: dict[str, Any]) -> str:
    """Return the metrics of an epoch on one line."""
    words = {"quadratic_weighted_kappa": "kappa", "accuracy": "accuracy", "referable_auc": "referable AUC"}
    figures = [f"{word} {metrics[key]:.3f}" for key, word in words.items() if metrics[key] is not None]
    recalls = "/".join(
        "-" if metrics[f"recall_grade_{g}"] is None else f"{metrics[f'recall_grade_{g}']:.2f}" for g in range(5)
    )
    loss = f"loss {metrics['loss']:.3f}, validation {metrics['validation_loss']:.3f}"
    return f"epoch {metrics['epoch']}: {loss}, {', '.join(figures)}, recall {recalls}"
