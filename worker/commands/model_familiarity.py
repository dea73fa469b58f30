"""`fundus model familiarity`: let a bundle recognise photographs unlike those that it has learned from."""

import json
from pathlib import Path
from typing import Annotated

import typer

from worker.core.errors import UsageError
from worker.core.settings import read_settings
from worker.core.terminal.output import print_note, stderr_console
from worker.core.terminal.progress_bar import progress_bar
from worker.model.bundle.bundle import find_bundle
from worker.model.bundle.ensemble import load_model
from worker.model.bundle.writer import add_familiarity


def familiarity(
    bundle: Annotated[str, typer.Argument(help="Name of a shipped bundle, or a folder.")],
    manifest: Annotated[Path, typer.Option(help="Manifest of the data set that the bundle was trained on.")],
    out: Annotated[Path, typer.Option(help="New folder for the bundle.")],
    *,
    limit: Annotated[int, typer.Option(min=200, help="Number of training photographs to learn from.")] = 2000,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Learn the features of the training photographs, so that each grade gets an unfamiliarity.

    Workers flag a photograph as unfamiliar if it is farther from the training photographs than 98 % of the held-out
    ones. The features are those of the forward pass. Weights and model id are unchanged.

    Example:

        fundus model familiarity fit-1/bundle --manifest eyes.csv --out fit-1-familiar
    """
    # OpenVINO is slow to import.
    from worker.model_card.feature_learning import learn_familiarity
    from worker.training.lineage import trace_lineage

    if out.exists():
        raise UsageError(f"{out} exists; choose a new folder")
    settings, messages = read_settings(), stderr_console()
    loaded = load_model(bundle)

    def on_warning(sentence: str) -> None:
        print_note(sentence, messages)

    with progress_bar(messages) as progress:
        task = progress.add_task("reading", total=None)
        learned = learn_familiarity(
            loaded,
            trace_lineage(bundle, loaded),
            manifest,
            settings,
            limit=limit,
            on_warning=on_warning,
            on_progress=lambda: progress.advance(task),
        )
    changed = add_familiarity(find_bundle(bundle), out, loaded.manifest, learned.familiarity)
    if as_json:
        counts = {"training": learned.training, "held_out": learned.held_out, "scale": learned.familiarity.scale}
        typer.echo(json.dumps({"model_id": changed.model_id, "name": changed.name, **counts}))
        return
    typer.echo(
        f"{out}: {changed.name} ({changed.model_id}), learned from {learned.training:,} training photographs,"
        f" scaled on {learned.held_out:,} held-out ones"
    )
