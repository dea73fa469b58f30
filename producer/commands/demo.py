"""`fundus demo`: grade sample images on embedded servers."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from producer.demo.run_demo import SAMPLES, DemoImage, DemoResult, DemoSource, run_demo
from worker.core.terminal.output import escape_control_characters, print_note, stderr_console
from worker.core.terminal.progress_bar import progress_bar
from worker.core.vocabulary import Status

MAX_ROWS = 25
OTHER_COLUMNS = 42
"""Characters that the table needs without names and status: borders, grade, reference grade and whether referable."""
LEAST_NAME = 9
LEAST_OVERLAY = 13
STYLES = {Status.GRADED: "green", Status.UNGRADABLE: "yellow", Status.FAILED: "red", Status.QUARANTINED: "red"}

app = typer.Typer()


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the ledger, the overlays and the logs.")] = Path("demo-out"),
    images: Annotated[
        str, typer.Option(help="Folder, manifest or .npy stack to grade.", show_default="the shipped samples")
    ] = str(SAMPLES),
    labels: Annotated[Path | None, typer.Option(help="CSV with reference grades, by file name or in order.")] = None,
    run: Annotated[str | None, typer.Option(help="Name of the run.", show_default="demo and the current time")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,  # noqa: FBT002 - Typer needs it
) -> None:
    """Grade sample images end to end on this machine, without any other service.

    Examples:
    $ fundus demo
    $ fundus demo --images ~/photographs --labels grades.csv --out /tmp/demo
    """
    # Progress goes to stderr, so that stdout can be piped.
    with progress_bar(stderr_console()) as progress:
        task = progress.add_task("loading the model", total=None)

        def advance(settled: int, total: int, not_graded: int) -> None:
            description = "loading the model" if not settled else "grading" if settled < total else "writing the report"
            errors = f"{not_graded:,} not graded" if not_graded else ""
            progress.update(task, description=description, completed=settled, total=total, errors=errors)

        result = run_demo(out, DemoSource(images, labels, run), advance, on_warning=print_note)
    if as_json:
        typer.echo(json.dumps(_describe(result)))
    else:
        show_result(result, Console())


def _describe(result: DemoResult) -> dict[str, object]:
    return {
        "run": result.run,
        "images": len(result.images),
        "graded": result.count(Status.GRADED),
        "ungradable": result.count(Status.UNGRADABLE),
        "failed": result.count(Status.FAILED),
        "seconds": round(result.seconds, 1),
        "database": str(result.database),
        "store": str(result.store),
        "report": None if result.report is None else str(result.report),
    }


def show_result(result: DemoResult, console: Console) -> None:
    """Print the table of images, one line each, and where everything lies."""
    table = Table(title=f"Run {result.run}", title_justify="left")
    table.add_column("image", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("grade", justify="right", no_wrap=True)
    table.add_column("reference", justify="right", no_wrap=True)
    table.add_column("referable", no_wrap=True)
    table.add_column("overlay / reason")
    shown = result.images[:MAX_ROWS]
    room = console.width - OTHER_COLUMNS - max((len(image.status) for image in shown), default=0)
    longest = max((len(image.name) for image in shown), default=0)
    name_width = min(longest, max(LEAST_NAME, room - LEAST_OVERLAY))
    for image in shown:
        table.add_row(*_cells(image, name_width, max(LEAST_OVERLAY, room - name_width)))
    console.print(table)
    if len(result.images) > MAX_ROWS:
        console.print(f"... and {len(result.images) - MAX_ROWS:,} more; the report lists all of them", highlight=False)
    counts = ", ".join(f"{result.count(status)} {status}" for status in Status if result.count(status))
    noun = "image" if len(result.images) == 1 else "images"
    console.print(f"{len(result.images)} {noun} in {result.seconds:.1f} s: {counts}.")
    console.print("Referable means grade 2 or worse.", highlight=False)
    overlays = next((image.overlay.parent for image in result.images if image.overlay), result.store)
    report = [] if result.report is None else [("report", result.report)]
    for name, path in (*report, ("overlays", overlays), ("ledger", result.database), ("worker's log", result.log)):
        console.print(f"{name + ':':14}{os.path.relpath(path)}", soft_wrap=True, highlight=False)
    console.print("Not a medical device: do not use the grades for decisions about patients.", style="dim")


def _cells(image: DemoImage, name_width: int, overlay_width: int) -> tuple[str, ...]:
    style = STYLES.get(image.status, "")
    name = image.error_code or ""
    if image.overlay:
        name = f"[link={image.overlay.as_uri()}]{escape(_shorten(image.overlay.name, overlay_width))}[/link]"
    return (
        escape(_shorten(escape_control_characters(image.name), name_width)),
        f"[{style}]{image.status}[/]" if style else str(image.status),
        "" if image.grade is None else str(image.grade),
        "" if image.reference_grade is None else str(image.reference_grade),
        {True: "yes", False: "no", None: ""}[image.referable],
        name,
    )


def _shorten(text: str, width: int) -> str:
    """Cut the middle out of a text that is longer than the width: names differ at their ends."""
    head = (width - 1) // 2
    return text if len(text) <= width else f"{text[:head]}…{text[head + 1 - width :]}"
