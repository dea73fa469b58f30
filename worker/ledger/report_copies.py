"""Delete the copy of a run's report in FUNDUS_REPORTS_DIR."""

import shutil

from worker.core.errors import StorageError
from worker.core.settings import Settings


def delete_report_copy(settings: Settings, run_name: str) -> None:
    """Delete the run's folder in FUNDUS_REPORTS_DIR if there is one. Raises StorageError."""
    if settings.reports_dir is None:
        return
    try:
        shutil.rmtree(settings.reports_dir / run_name)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StorageError(f"cannot delete the report of run {run_name}: {error.strerror or error}") from error
