"""`fundus model quantise`: measure the activation ranges of a network for INT8."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from worker.core.errors import UsageError
from worker.core.settings import read_settings
from worker.core.terminal.output import print_note
from worker.core.terminal.progress_bar import progress_bar
from worker.model.bundle.bundle import DEFAULT_BUNDLE, Bundle, find_bundle
from worker.model.bundle.ensemble import load_model
from worker.model.bundle.writer import add_activation_ranges
from worker.model.engines.factory import openvino_unsupported_reason
from worker.training.examples import read_examples


def quantise(
    bundle: Annotated[str, typer.Argument(help="A pretrained bundle's name, or a folder.")] = DEFAULT_BUNDLE,
    *,
    manifest: Annotated[Path, typer.Option(help="CSV or JSON lines with uri and reference_grade.")],
    out: Annotated[Path, typer.Option(help="New folder for the bundle.")],
    images: Annotated[
        int, typer.Option(min=32, max=100_000, help="Photographs for the ranges; the others test INT8.")
    ] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random division of the photographs.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure a network's activation ranges, and write the bundle with them, for FUNDUS_ENGINE=openvino-int8.

    The model and its id stay the same. Grades, probabilities and saliency in INT8 are compared with those in float32 on
    the other photographs; the bundle is written only if the differences are within the acceptance limits.

    Examples:

        fundus model quantise --manifest eyes.csv --out quick

        FUNDUS_MODEL=./quick FUNDUS_ENGINE=openvino-int8 fundus worker
    """
    settings = read_settings()
    model = load_model(bundle)
    if not isinstance(model, Bundle):
        raise UsageError(f"{bundle} is an ensemble; INT8 supports single networks only")
    unsupported = openvino_unsupported_reason(model)
    if unsupported is not None:
        raise UsageError(unsupported)
    if out.exists():
        raise UsageError(f"{out} exists; name a new folder")
    # OpenVINO is loaded only by the command that needs it.
    from worker.training.quantise import quantise as measure_and_test

    messages = Console(stderr=True)

    def on_warning(sentence: str) -> None:
        print_note(sentence, messages)

    with progress_bar(messages) as progress:
        examples = read_examples(manifest, settings, on_warning)
        task = progress.add_task("measuring and testing", total=len(examples))
        ranges, agreement = measure_and_test(
            model, examples, images=images, seed=seed, settings=settings, on_progress=lambda: progress.advance(task)
        )
    written = add_activation_ranges(find_bundle(bundle), out, ranges)
    if written.golden_sha256 is None:
        from worker.model.golden_inputs import add_golden_inputs

        add_golden_inputs(out)
    if as_json:
        typer.echo(
            json.dumps({"model_id": written.model_id, "name": written.name, **agreement.model_dump(mode="json")})
        )
        return
    console = Console(highlight=False)
    console.print(f"INT8 compared with float32, {agreement.images:,} photographs", *agreement.lines, sep="\n")
    console.print(f"{out}: {written.name} ({written.model_id})")
