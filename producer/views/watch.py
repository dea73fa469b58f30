"""Follow a run until it is over."""

import time

from rich.live import Live
from sqlalchemy import Engine

from producer.views.status import draw_progress
from worker.core.retry import retry_service_errors
from worker.core.terminal.output import messages
from worker.ledger.status import RunProgress, read_progress

LOOK_EVERY_S = 1.0
RETRY_TIMEOUT_S = 60.0


def watch_run(engine: Engine, name: str) -> RunProgress:
    """The last look at a run that is over; redrawn on stderr meanwhile if that is a terminal.

    Raises RunError for an unknown run, DatabaseError when the ledger stays away for a minute.
    """
    console = messages()
    progress = read_progress(engine, name)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while not progress.is_over:
            if console.is_terminal:
                live.update(draw_progress(progress), refresh=True)
            time.sleep(LOOK_EVERY_S)
            progress = retry_service_errors(lambda: read_progress(engine, name), timeout_s=RETRY_TIMEOUT_S)
    return progress
