"""`fundus report`: a run as HTML pages."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from worker.contract.database import connect
from worker.contract.errors import UsageError
from worker.contract.migrate import require_current
from worker.contract.settings import read_settings
from worker.report.pages import Choices, write_report
from worker.report.patients import read_next_steps

app = typer.Typer()


@app.command()
def report(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the pages; report-RUN unless given.")] = None,
    baseline: Annotated[str | None, typer.Option(help="Another run, whose grades are shown beside.")] = None,
    next_steps: Annotated[
        Path | None, typer.Option(help="JSON object: a sentence for `0` to `4` and `attention`.")
    ] = None,
    *,
    pictures: Annotated[bool, typer.Option(help="Show photographs and overlays.")] = True,
    all_pictures: Annotated[
        bool, typer.Option("--all-pictures", help="Also of images that are not referable, in a run of over 2,000.")
    ] = False,
    open_it: Annotated[bool, typer.Option("--open", help="Open the first page in a browser.")] = False,
) -> None:
    """Write what a run found: patients, the most urgent first, and galleries by grade. Needs no network to be read.

    Examples:
    $ fundus report night-1
    $ fundus report night-1 --out /srv/reports/night-1 --baseline night-0 --next-steps steps.json
    """
    settings = read_settings()
    engine = connect(settings)
    require_current(engine)
    choices = Choices(
        baseline=baseline,
        next_steps=read_next_steps(next_steps),
        all_pictures=all_pictures,
        pictures=pictures,
    )
    folder = out or Path(f"report-{run}")
    messages = Console(stderr=True, highlight=False)
    with Progress(console=messages, transient=True, disable=not messages.is_terminal) as progress:
        task = progress.add_task("pictures", total=None)
        try:
            index = write_report(
                engine,
                settings,
                run,
                folder,
                choices,
                remark=lambda sentence: messages.print(sentence, soft_wrap=True, markup=False),
                step=lambda done, total: progress.update(task, completed=done, total=total),
            )
        except OSError as error:
            raise UsageError(f"cannot write {folder}: {error.strerror or error}") from error
    Console(highlight=False).print(str(index), soft_wrap=True, markup=False)
    if open_it:
        webbrowser.open(index.absolute().as_uri())
