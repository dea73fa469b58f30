"""`results.csv` and `results.parquet` of a report: the tables that `fundus export` writes."""

from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Engine

from worker.core.storage.object_store import ObjectStore
from worker.ledger.export import write_rows
from worker.ledger.export_formats import ExportFormat
from worker.ledger.runs import find_run
from worker.report.destination import Destination


def write_tables(engine: Engine, run_name: str, overlays: ObjectStore, destination: Destination) -> list[str]:
    """Write both tables, one row per image, and return their names. Raises DatabaseError and StorageError."""
    run = find_run(engine, run_name)
    names = []
    with TemporaryDirectory(prefix="fundus-report-") as folder:
        for fmt in (ExportFormat.CSV, ExportFormat.PARQUET):
            name = f"results.{fmt}"
            file = Path(folder) / name
            write_rows(engine, overlays, run, fmt, file)
            destination.write_file(name, file)
            names.append(name)
    return names
