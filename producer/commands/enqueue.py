"""`fundus enqueue`: add the photographs of a source to a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress as Bar
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

from producer.runs.dry_run import Plan, plan_enqueue
from producer.runs.enqueue import Enqueued, Progress, enqueue
from producer.runs.lifecycle import RunRequest
from producer.sources.open_source import open_source
from producer.views.status import draw_progress
from producer.views.watch import watch_run
from worker.core.manifests.admission import make_admission_policy
from worker.core.messages import MAX_CHUNK
from worker.core.messaging.broker import make_celery
from worker.core.settings import read_settings
from worker.core.storage.storage import Storage
from worker.core.terminal.output import answers, messages, print_json, print_note
from worker.core.vocabulary import Queue
from worker.ledger.migrate import open_ledger
from worker.ledger.status import describe_progress

app = typer.Typer()


@app.command(name="enqueue")
def enqueue_source(
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="Folder, s3://BUCKET/PREFIX, .csv or .jsonl manifest, or .npy stack."),
    ],
    run: Annotated[str, typer.Option(help="Name of the run; one that exists gets what is new.")],
    *,
    labels: Annotated[Path | None, typer.Option(help="CSV with reference grades, by file name or in order.")] = None,
    model: Annotated[str | None, typer.Option(help="Id of the only model that may grade the run.")] = None,
    queue: Annotated[Queue | None, typer.Option(help="Urgency. A new run goes to bulk.")] = None,
    chunk: Annotated[int | None, typer.Option(min=1, max=MAX_CHUNK, help="Images in one message.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Read at most so many references.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check everything, write nothing.")] = False,
    allow_column: Annotated[
        list[str] | None, typer.Option(help="A column that looks personal and is not; may be repeated.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the run until it is over.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Add the photographs of a source to a run. Again: only what is new is added, also after a crash.

    Examples:
    $ fundus enqueue /photos/2026-11 --run november --watch
    $ fundus enqueue s3://clinic/2026/ --run november --dry-run
    $ fundus enqueue patients.csv --run patients --queue live --chunk 1
    $ fundus enqueue x_test.npy --run test --labels test.csv
    """
    settings = read_settings()
    engine = open_ledger(settings)
    warnings: list[str] = []
    admission = make_admission_policy(settings, allow_column or ())
    opened = open_source(
        source, storage=Storage(settings), admission=admission, labels=labels, on_warning=warnings.append
    )
    references = islice(opened.references, limit)
    request = RunRequest(name=run, source=opened.text, queue=queue, chunk_size=chunk, model_id=model)
    done: Plan | Enqueued
    try:
        with _shown() as progress:
            if dry_run:
                done = plan_enqueue(engine, request, references, progress)
            else:
                done = enqueue(engine, make_celery(settings), settings, request, references, progress)
    except KeyboardInterrupt:
        print_note("interrupted; the same command goes on where this one stopped")
        raise
    for warning in warnings:
        print_note(warning)
    document = asdict(done) | {"remarks": warnings}
    if not json:
        _print_plan(done) if isinstance(done, Plan) else _print_enqueued(done)
    if watch and not dry_run:
        last = watch_run(engine, run)
        document |= describe_progress(last)
        if not json:
            answers().print(draw_progress(last))
    if json:
        print_json(document)


@contextmanager
def _shown() -> Iterator[Progress]:
    """Counts and pace on stderr while the source is read, on a terminal only. How much there is, nobody knows yet."""
    console = messages()
    columns = (SpinnerColumn(), TextColumn("{task.fields[words]}"), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None, words="reading the source")

        def advance(found: int, new: int) -> None:
            bar.update(task, completed=found)
            pace = bar.tasks[0].speed
            bar.update(task, words=f"{found:,} found, {new:,} new" + (f"  {pace:,.0f} images/s" if pace else ""))

        yield advance


def _print_enqueued(done: Enqueued) -> None:
    answers().print(
        f"{done.run}: {done.found:,} found, {done.new:,} new, {done.messages:,} messages, {done.seconds:.1f} s"
    )
    answers().print(f"Follow it with: fundus status {done.run} --watch")


def _print_plan(plan: Plan) -> None:
    verb = "goes on" if plan.resumes else "would be made"
    answers().print(f"{plan.run} {verb}: {plan.found:,} found, {plan.new:,} new; nothing was written")
    for reference in plan.first:
        grade = "" if reference.reference_grade is None else f"  grade {int(reference.reference_grade)}"
        answers().print(f"  {reference.identity}  {reference.uri}{grade}", soft_wrap=True)
