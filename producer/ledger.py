"""Open the ledger for a command."""

from sqlalchemy import Engine

from worker.contract.database import connect
from worker.contract.migrate import require_current
from worker.contract.settings import Settings


def open_ledger(settings: Settings) -> Engine:
    """A connection to a ledger that serves this code. Raises UsageError for one that does not, DatabaseError."""
    engine = connect(settings)
    require_current(engine)
    return engine
