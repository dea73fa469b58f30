"""`fundus model localise`: write a bundle whose maps are more on lesions."""

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


def localise(
    bundle: Annotated[str, typer.Argument(help="Name of a shipped bundle, or a folder.")],
    manifest: Annotated[Path, typer.Option(help="Manifest of the data set that the bundle was trained on.")],
    lesions: Annotated[Path, typer.Option(help="Folder with photographs and masks: NAME.jpg, NAME_lesions.png.")],
    out: Annotated[Path, typer.Option(help="New folder for the bundle.")],
    *,
    drift: Annotated[
        float, typer.Option(help="Largest change of the logits of training photographs, as a share of their spread.")
    ] = 0.05,
    limit: Annotated[int, typer.Option(min=200, help="Number of training photographs to keep the logits of.")] = 4000,
    name: Annotated[str | None, typer.Option(help="Name of the new bundle. Default: the name of the folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Move the saliency maps onto lesions, where experts have marked some, and hardly change the logits.

    Only the head changes. The energy on lesions is also measured on photographs that were left out. Learn feature
    spaces (`fundus model familiarity`) and choose thresholds after it.

    Example:

        fundus model localise ./both --manifest eyes.csv --lesions masks --out localised
    """
    # OpenVINO and SciPy are slow to import.
    from worker.model.golden_inputs import add_golden_inputs
    from worker.model_card.lesion_localisation import describe, localise_model, write_localised
    from worker.training.lineage import trace_lineage

    if not 0 < drift < 1:
        raise UsageError(f"--drift {drift:g} is not between 0 and 1")
    if out.exists():
        raise UsageError(f"{out} exists; choose a new folder")
    settings, messages = read_settings(), stderr_console()
    loaded = load_model(bundle)

    def on_warning(sentence: str) -> None:
        print_note(sentence, messages)

    with progress_bar(messages) as progress:
        task = progress.add_task("reading", total=None)
        localised = localise_model(
            loaded,
            trace_lineage(bundle, loaded),
            manifest,
            lesions,
            settings,
            max_drift=drift,
            limit=limit,
            on_warning=on_warning,
            on_progress=lambda: progress.advance(task),
        )
    write_localised(loaded, find_bundle(bundle), out, name or out.resolve().name, localised.weights)
    written = add_golden_inputs(out)
    if as_json:
        fields = ("before", "held_out", "after", "drift")
        outputs = {output: {key: getattr(one, key) for key in fields} for output, one in localised.outputs.items()}
        typer.echo(json.dumps({"model_id": written.model_id, "name": written.name, "outputs": outputs}))
        return
    typer.echo(f"{out}: {describe(written, localised)}")
