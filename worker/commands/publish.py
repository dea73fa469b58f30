"""`fundus publish`: store results in the PACS."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from worker.core.errors import PublicationError, SettingsError, StorageError, UsageError
from worker.core.settings import Settings, read_settings
from worker.core.terminal.output import print_json, print_note, stderr_console, stdout_console
from worker.publishing.passes import preview, publish_all, publish_run, write_objects
from worker.publishing.publisher import PassResult, PublicationResult

app = typer.Typer()


@app.command()
def publish(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="Run to publish; without it, what is due of all runs.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the DICOM objects as files into this folder and store nothing.")
    ] = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, but change and send nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Publish the results of a run as FUNDUS_PUBLISH says: reports and overlays in the PACS, FHIR resources.

    Each object is stored once, however often the command is called. With a run, it also publishes outcomes from before
    FUNDUS_PUBLISH was set, and again tries what was refused. Without one, it does what beat's task does, for cron.
    The files of --out have the patient's name in them.
    The exit status is 1 if an object is refused or waits for a service.

    Examples:
    $ FUNDUS_PUBLISH=sr,overlay fundus publish night-1 --dry-run
    $ fundus publish night-1 --out /srv/results
    """
    settings = read_settings()
    if not settings.publication_kinds:
        raise SettingsError("FUNDUS_PUBLISH is not set; fix: name what is published, such as sr,overlay")
    if run is None:
        if dry_run or out is not None:
            raise UsageError("--dry-run and --out need a run; fix: fundus publish RUN")
        is_complete = _report("all runs", publish_all(settings), json=json)
    elif dry_run:
        _count(settings, run, json=json)
        return
    elif out is not None:
        is_complete = _write(settings, run, out, json=json)
    else:
        is_complete = _report(run, publish_run(settings, run), json=json)
    if not is_complete:
        raise typer.Exit(1)


def _count(settings: Settings, run: str, *, json: bool) -> None:
    counts = Counter((one.outcome.publication.kind, one.state) for one in preview(settings, run))
    if json:
        by_kind = {
            str(kind): {str(state): number for (found, state), number in sorted(counts.items()) if found is kind}
            for kind in settings.publication_kinds
        }
        print_json({"run": run, "dry_run": True, **by_kind})
        return
    for (kind, state), number in sorted(counts.items()):
        stdout_console().print(f"{run}: {number:,} {kind} {state}")
    if not counts:
        print_note(f"run {run} has no graded or ungradable DICOM photograph")


def _write(settings: Settings, run: str, folder: Path, *, json: bool) -> bool:
    written, refused = 0, Counter[str]()
    try:
        for one in write_objects(settings, run, folder):
            if isinstance(one, PublicationError):
                refused[one.code] += 1
            else:
                written += 1
    except OSError as error:
        raise UsageError(f"cannot write into {folder}: {error.strerror}") from error
    if json:
        print_json({"run": run, "written": written, "refused": dict(refused), "out": str(folder)})
    else:
        stdout_console().print(f"{run}: {written:,} objects written to {folder}", markup=False, soft_wrap=True)
        for code, number in refused.most_common():
            print_note(f"{number:,} objects must not be published: {code}")
    return not refused


def _report(run: str, result: PassResult, *, json: bool) -> bool:
    """Print a result and return whether it is complete. Raises StorageError if a service is away."""
    if json:
        print_json({"run": run, **result.describe()})
    else:
        _print(run, result)
    if result.away:
        raise StorageError("; ".join(f"{kind}: {detail}" for kind, detail in result.away.items()))
    return not any(result.count(one) for one in (PublicationResult.REFUSED, PublicationResult.POSTPONED))


def _print(run: str, result: PassResult) -> None:
    console = stdout_console()
    for (found, kind), number in sorted(result.counts.items()):
        console.print(f"{run}: {number:,} {kind} {found}")
    if not result.counts:
        console.print(f"{run}: nothing to publish")
    if result.count(PublicationResult.REFUSED):
        print_note(f"`fundus status {run}` names the reasons of what was refused", stderr_console())
