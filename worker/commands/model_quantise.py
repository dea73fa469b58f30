"""`fundus model quantise`: what an engine in 8 bits needs of a network."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from worker.core.errors import UsageError
from worker.core.settings import read_settings
from worker.core.terminal.progress_bar import progress_bar
from worker.model.bundle.bundle import DEFAULT_BUNDLE, Bundle, find_bundle
from worker.model.bundle.ensemble import load_model
from worker.model.bundle.writer import add_activation_ranges
from worker.model.engines.factory import openvino_unsupported_reason
from worker.training.examples import read_examples


def quantise(
    bundle: Annotated[str, typer.Argument(help="A shipped bundle's name, or a folder.")] = DEFAULT_BUNDLE,
    *,
    manifest: Annotated[Path, typer.Option(help="CSV or JSON lines with uri and reference_grade.")],
    out: Annotated[Path, typer.Option(help="New folder for the bundle.")],
    images: Annotated[
        int, typer.Option(min=32, max=100_000, help="Photographs that are measured; the others judge.")
    ] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure what a network's layers are shown, and write the bundle with it, for FUNDUS_ENGINE=openvino-int8.

    The model stays the same, and so does its id. Grades, probabilities and maps in 8 bits are compared with those in
    float32 on photographs that were not measured; nothing is written where they differ more than the gate allows.

    Examples:

        fundus model quantise --manifest eyes.csv --out quick

        FUNDUS_MODEL=./quick FUNDUS_ENGINE=openvino-int8 fundus worker
    """
    settings = read_settings()
    model = load_model(bundle)
    if not isinstance(model, Bundle):
        raise UsageError(f"{bundle} is an ensemble; 8 bits are for a single network")
    obstacle = openvino_unsupported_reason(model)
    if obstacle is not None:
        raise UsageError(obstacle)
    if out.exists():
        raise UsageError(f"{out} exists; name a new folder")
    # OpenVINO is loaded only by the command that needs it.
    from worker.training.quantise import quantise as measure_and_judge

    messages = Console(stderr=True)

    def on_warning(sentence: str) -> None:
        messages.print(Text.assemble(("note", "yellow"), ": ", sentence), soft_wrap=True)

    with progress_bar(messages) as progress:
        examples = read_examples(manifest, settings, on_warning)
        task = progress.add_task("measuring and judging", total=len(examples))
        ranges, verdict = measure_and_judge(
            model, examples, images=images, seed=seed, settings=settings, on_progress=lambda: progress.advance(task)
        )
    written = add_activation_ranges(find_bundle(bundle), out, ranges)
    if as_json:
        typer.echo(json.dumps({"model_id": written.model_id, "name": written.name, **verdict.model_dump(mode="json")}))
        return
    console = Console(highlight=False)
    console.print(f"8 bits against float32, {verdict.images:,} photographs", *verdict.lines, sep="\n")
    console.print(f"{out}: {written.name} ({written.model_id})")
