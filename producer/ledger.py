"""Open the ledger for a command."""

from sqlalchemy import Engine

from worker.contract.database import connect
from worker.contract.migrate import require_current
from worker.contract.settings import Settings


def open_ledger(settings: Settings) -> Engine:
    """A connection to a ledger of this code's level. Raises UsageError for another level, DatabaseError."""
    engine = connect(settings)
    require_current(engine)
    return engine
