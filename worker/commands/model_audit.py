"""`fundus model audit`: test the saliency maps of a model."""

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from worker.core.errors import UsageError
from worker.core.settings import read_settings
from worker.core.storage.atomic_write import write_atomically
from worker.core.terminal.output import stderr_console
from worker.core.terminal.progress_bar import progress_bar
from worker.model.bundle.ensemble import load_model

PAGE_FILE, PLOT_FILE, DOCUMENT_FILE = "AUDIT.md", "audit.png", "audit.json"


def audit(
    bundle: Annotated[str | None, typer.Argument(help="Shipped bundle or folder. Default: FUNDUS_MODEL.")] = None,
    *,
    lesions: Annotated[
        Path, typer.Option(help="Folder with photographs NAME.jpg and masks NAME_lesions.png of the same size.")
    ],
    out: Annotated[Path | None, typer.Option(help="Output folder for AUDIT.md, plots and audit.json.")] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Run only the pointing game, in a fifth of the time."),
    ] = False,
    resamples: Annotated[int, typer.Option(min=100, max=100_000, help="Number of bootstrap resamples.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Test whether the saliency maps of a model can be trusted.

    Tests: pointing game and energy on lesions, compared with the field's centre, chance and models with random weights;
    energy outside the field; coverage of each kind of lesion; deletion and insertion; weight randomisation from the
    last layer to the first; rotation stability. A mask has one byte per pixel with the bits 1 microaneurysms, 2
    haemorrhages, 4 hard exudates, 8 soft exudates; other bits are ignored. An empty map counts as a miss.

    Examples:

        fundus model audit --lesions idrid_lesions --out audit

        fundus model audit ./mine --lesions idrid_lesions --quick --json
    """
    # SciPy and Matplotlib are slow to import.
    from worker.evaluation.saliency.audit import audit_saliency
    from worker.evaluation.saliency.audit_document import summarise_audit
    from worker.evaluation.saliency.audit_page import render_audit
    from worker.evaluation.saliency.audit_plots import draw_audit
    from worker.evaluation.saliency.audit_view import draw_audit_table

    settings = read_settings()
    model = load_model(bundle or settings.model)
    messages = stderr_console()
    with progress_bar(messages, unit="photographs") as progress:
        tasks = {}

        def on_progress(test: str) -> None:
            if test not in tasks:
                tasks[test] = progress.add_task(test, total=None)
            progress.advance(tasks[test])

        results = audit_saliency(
            settings.engine, model, lesions, quick=quick, on_warning=messages.print, on_progress=on_progress
        )
    document = summarise_audit(results, model=model.name, model_id=model.model_id, resamples=resamples, seed=seed)
    if out is not None:
        words = ["fundus", "model", "audit", bundle or settings.model, "--lesions", str(lesions), "--out", str(out)]
        command = shlex.join([*words, *(["--quick"] if quick else [])])
        try:
            out.mkdir(parents=True, exist_ok=True)
            write_atomically(out / DOCUMENT_FILE, (document.to_json(indent=2) + "\n").encode())
            draw_audit(document, out / PLOT_FILE)
            write_atomically(out / PAGE_FILE, render_audit(document, PLOT_FILE, command).encode())
        except OSError as error:
            raise UsageError(f"cannot write {out}: {error.strerror or error}") from error
    if as_json:
        typer.echo(document.to_json())
    else:
        Console(highlight=False).print(draw_audit_table(document))
        if out is not None:
            typer.echo(out / PAGE_FILE)
