"""Follow a run until it is finished or cancelled."""

import time

from rich.live import Live
from sqlalchemy import Engine

from producer.views.status import draw_progress
from worker.core.retry import retry_service_errors
from worker.core.terminal.output import stderr_console
from worker.ledger.status import RunProgress, read_progress

POLL_INTERVAL_S = 1.0
RETRY_TIMEOUT_S = 60.0


def watch_run(engine: Engine, name: str) -> RunProgress:
    """Wait until the run is finished or cancelled and return its final progress.

    Redraws the progress on stderr every second if stderr is a terminal. Raises RunError for an unknown run,
    DatabaseError if the ledger does not answer for a minute.
    """
    console = stderr_console()
    progress = read_progress(engine, name)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while not progress.is_over:
            if console.is_terminal:
                live.update(draw_progress(progress), refresh=True)
            time.sleep(POLL_INTERVAL_S)
            progress = retry_service_errors(lambda: read_progress(engine, name), timeout_s=RETRY_TIMEOUT_S)
    return progress
