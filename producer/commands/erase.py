"""`fundus erase`: erase a patient."""

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from worker.core.errors import UsageError
from worker.core.settings import read_settings
from worker.core.terminal.output import print_json, print_note, stdout_console
from worker.ledger.erasure import erase_patient

STDIN = "-"

app = typer.Typer()


@app.command()
def erase(
    *,
    patient: Annotated[
        str, typer.Option(metavar="ID", help="The patient id as in the manifests; `-` reads it from standard input.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, but erase nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Erase a patient from all runs: outcomes, overlays, image references, and the reasons of the readers.

    The reports of these runs are deleted and written again without the patient.
    Runs under `fundus hold` are refused. The photographs themselves, exports, and backups are not touched.
    The audit log records runs and counts, not the patient. An interrupted call is completed by the next one.

    Examples:
    $ fundus erase --patient 4711 --dry-run
    $ fundus erase --patient - < patient.txt
    """
    patient_id = (sys.stdin.readline() if patient == STDIN else patient).strip()
    if not patient_id:
        raise UsageError("the patient id is empty")
    done = erase_patient(read_settings(), patient_id, dry_run=dry_run)
    if json:
        print_json(asdict(done) | {"dry_run": dry_run})
        return
    verb = "would be erased" if dry_run else "erased"
    stdout_console().print(
        f"{verb}: {done.images:,} images with {done.outcomes:,} outcomes, {done.overlays:,} overlays and"
        f" {done.reasons:,} reasons, from {len(done.runs):,} runs"
    )
    for place in done.exports:
        print_note(f"{place} was written of one of these runs and may still contain the patient")
