"""Export a run as FHIR R4 transactions, one line for each study, in constant memory.

Photographs are read in the order of their ids, in short transactions, and ordered by study in a temporary file.
"""

import json
import sqlite3
from collections.abc import Iterator
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Engine, select

from worker.core.fhir.outcomes import PhotographOutcome, Study
from worker.core.fhir.resources import Publisher
from worker.core.fhir.transaction import build_transaction
from worker.core.storage.private_file import create_file
from worker.ledger.database import read_transaction
from worker.ledger.runs import Run
from worker.ledger.schema import models
from worker.ledger.study_outcomes import read_study_photographs

_OUTCOME = TypeAdapter(PhotographOutcome)


def write_transactions(engine: Engine, run: Run, publisher: Publisher, file: Path) -> int:
    """Write one transaction bundle a line to a new file, ordered by study; return their number.

    Patients are named by their ids in the ledger, in the system `SYSTEM/patient`. Raises OSError, DatabaseError.
    """
    lines = 0
    with create_file(file, "x", encoding="utf-8") as stream:
        for study in _read_studies(engine, run, publisher):
            if (bundle := build_transaction(study, publisher)) is not None:
                stream.write(json.dumps(bundle, ensure_ascii=False, separators=(",", ":")) + "\n")
                lines += 1
    return lines


def _read_studies(engine: Engine, run: Run, publisher: Publisher) -> Iterator[Study]:
    with read_transaction(engine) as connection:
        model_name = connection.scalar(select(models.c.name).where(models.c.model_id == run.model_id))
    # An empty name makes a temporary file that SQLite deletes when the connection closes.
    sorter = sqlite3.connect("", isolation_level=None)
    try:
        sorter.executescript("PRAGMA journal_mode = OFF; PRAGMA temp_store = FILE")
        sorter.execute("CREATE TABLE photographs (study_key, study_uid, patient_id, study_date, outcome)")
        for page in read_study_photographs(engine, run):
            sorter.execute("BEGIN")
            sorter.executemany(
                "INSERT INTO photographs VALUES (?, ?, ?, ?, ?)",
                [
                    (
                        one.study_key,
                        one.study_uid,
                        one.patient_id,
                        one.study_date.isoformat() if one.study_date else None,
                        _OUTCOME.dump_json(one.outcome),
                    )
                    for one in page
                ],
            )
            sorter.execute("COMMIT")
        rows = sorter.execute("SELECT * FROM photographs ORDER BY study_key, rowid")
        for _, photographs in groupby(rows, key=lambda row: row[0]):
            yield _to_study(run, model_name or "", list(photographs), publisher)
    finally:
        sorter.close()


def _to_study(run: Run, model_name: str, rows: list[tuple[Any, ...]], publisher: Publisher) -> Study:
    key, study_uid, patient_id, *_ = rows[0]
    dates = {found for *_, found, _ in rows}
    return Study(
        run=run.name,
        model_id=run.model_id or "",
        model_name=model_name,
        key=key,
        study_uid=study_uid,
        subject={"system": f"{publisher.system}/patient", "value": patient_id} if patient_id else None,
        # Photographs without a study are those of a patient, which may be of several days.
        taken=date.fromisoformat(found) if len(dates) == 1 and (found := dates.pop()) else None,
        photographs=[_OUTCOME.validate_json(outcome) for *_, outcome in rows],
    )
