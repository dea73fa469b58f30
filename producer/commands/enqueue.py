"""`fundus enqueue`: add the images of a source to a run."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress as Bar
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

from producer.runs.dry_run import DryRunResult, dry_run_enqueue
from producer.runs.enqueue import EnqueueResult, OnEnqueueProgress, enqueue
from producer.runs.lifecycle import RunRequest
from producer.sources.naming import NamingRules, make_naming_rules
from producer.sources.open_source import open_source
from producer.views.status import draw_progress
from producer.views.watch import watch_run
from worker.core.errors import UsageError
from worker.core.image_name import name_below
from worker.core.manifests.admission import make_admission_policy
from worker.core.messages import MAX_CHUNK_IMAGES
from worker.core.messaging.broker import make_celery
from worker.core.settings import Settings, read_settings
from worker.core.storage.storage import Storage
from worker.core.terminal.output import (
    escape_control_characters,
    print_json,
    print_note,
    stderr_console,
    stdout_console,
)
from worker.core.vocabulary import Eye, Precision, Queue
from worker.ledger.migrate import open_ledger
from worker.ledger.status import describe_progress

app = typer.Typer()


@app.command(name="enqueue")
def enqueue_source(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Folder, s3://BUCKET/PREFIX, dicomweb://pacs?QUERY, .csv or .jsonl manifest, or .npy stack.",
        ),
    ],
    run: Annotated[str, typer.Option(help="Name of the run. An existing run gets the images it lacks.")],
    *,
    labels: Annotated[Path | None, typer.Option(help="CSV with reference grades, by file name or in order.")] = None,
    eye_from_name: Annotated[
        bool | None,
        typer.Option(
            "--eye-from-name/--no-eye-from-name",
            help="Read the eye from the file names: right, left, OD, OS, R or L as a word.",
            show_default="FUNDUS_EYE_FROM_NAME",
        ),
    ] = None,
    patient_from: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="Read the patient id from the path below the source: group `patient`, first group, or whole match.",
            show_default="FUNDUS_PATIENT_FROM",
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Id of the model that must grade the run.")] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(help="Only workers that compute in this precision grade the new run.", show_default="any"),
    ] = None,
    site: Annotated[
        str | None, typer.Option(metavar="NAME", help="Site where the photographs were taken, such as clinic-a.")
    ] = None,
    queue: Annotated[Queue | None, typer.Option(help="Queue of a new run.", show_default="bulk")] = None,
    chunk: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_CHUNK_IMAGES, help="Images per message.", show_default="FUNDUS_CHUNK_SIZE"),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Read at most this many references.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and check the whole source, but write nothing.")
    ] = False,
    allow_column: Annotated[
        list[str] | None, typer.Option(help="Accept a column whose name looks personal. Repeatable.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the run until it is finished.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Add the images of a source to a run.

    Repeating the command adds only what the run lacks, also after a crash.

    Examples:
    $ fundus enqueue /photos/2026-11 --run november --watch
    $ fundus enqueue s3://clinic/2026/ --run november --dry-run
    $ fundus enqueue 'dicomweb://pacs?StudyDate=20261101-20261130' --run november
    $ fundus enqueue /photos --run archive --eye-from-name --patient-from '^([0-9]+)/'
    $ fundus enqueue patients.csv --run patients --queue live --chunk 1
    $ fundus enqueue x_test.npy --run test --labels test.csv
    $ fundus enqueue /photos/clinic-a --run clinic-a-1 --labels grades.csv --site clinic-a
    """
    settings = read_settings()
    engine = open_ledger(settings)
    warnings: list[str] = []
    admission = make_admission_policy(settings, allow_column or ())
    opened = open_source(
        source,
        storage=Storage(settings),
        admission=admission,
        labels=labels,
        on_warning=warnings.append,
        naming=_choose_naming(settings, eye_from_name, patient_from),
    )
    references = islice(opened.references, limit)
    request = RunRequest(
        name=run,
        source=opened.location,
        queue=queue,
        chunk_size=chunk,
        model_id=model,
        precision=precision,
        site=site,
    )
    result: DryRunResult | EnqueueResult
    try:
        with _progress_bar() as on_progress:
            if dry_run:
                result = dry_run_enqueue(engine, request, references, on_progress)
            else:
                result = enqueue(engine, make_celery(settings), settings, request, references, on_progress)
    except KeyboardInterrupt:
        print_note("interrupted; run the same command again to resume")
        raise
    for warning in warnings:
        print_note(warning)
    document = asdict(result) | {"remarks": warnings}
    if not json:
        _print_dry_run(result, opened.location) if isinstance(result, DryRunResult) else _print_result(result)
    if watch and not dry_run:
        last = watch_run(engine, run)
        document |= describe_progress(last)
        if not json:
            stdout_console().print(draw_progress(last))
    if json:
        print_json(document)


def _choose_naming(settings: Settings, eye: bool | None, patient: str | None) -> NamingRules:  # noqa: FBT001 - options
    try:
        pattern = None if patient is None else re.compile(patient)
    except re.error as error:
        raise UsageError(f"--patient-from {patient!r} is not a regular expression: {error}") from error
    rules = make_naming_rules(settings)
    return NamingRules(rules.eye if eye is None else eye, pattern or rules.patient)


@contextmanager
def _progress_bar() -> Iterator[OnEnqueueProgress]:
    """Show counts and images/s on stderr while the source is read, on a terminal only. The total is unknown."""
    console = stderr_console()
    columns = (SpinnerColumn(), TextColumn("{task.fields[words]}"), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None, words="reading the source")

        def advance(found: int, new: int) -> None:
            bar.update(task, completed=found)
            rate = bar.tasks[0].speed
            bar.update(task, words=f"{found:,} found, {new:,} new" + (f"  {rate:,.0f} images/s" if rate else ""))

        yield advance


def _print_result(result: EnqueueResult) -> None:
    counts = f"{result.found:,} found, {result.new:,} new, {result.messages:,} messages"
    stdout_console().print(f"{result.run}: {counts}, {result.seconds:.1f} s")
    stdout_console().print(f"Follow it with: fundus status {result.run} --watch")


def _print_dry_run(result: DryRunResult, source: str) -> None:
    verb = "would be resumed" if result.resumes else "would be created"
    stdout_console().print(f"{result.run} {verb}: {result.found:,} found, {result.new:,} new; nothing was written")
    for reference in result.first:
        grade = "" if reference.reference_grade is None else f"  grade {int(reference.reference_grade)}"
        eye = "" if reference.eye is Eye.UNKNOWN else f"  {reference.eye} eye"
        patient = "" if reference.patient_id is None else f"  patient {reference.patient_id}"
        name = escape_control_characters(name_below(reference.uri, source))
        stdout_console().print(f"  {name}{eye}{patient}{grade}", soft_wrap=True, markup=False)
