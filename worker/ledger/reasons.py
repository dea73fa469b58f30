"""Erase the reasons of old decisions: free text in which readers may name persons."""

from datetime import datetime

from sqlalchemy import ColumnElement, Connection, select, update

from worker.core.vocabulary import AuditAction
from worker.ledger.audit_log import record_action
from worker.ledger.review_schema import decisions
from worker.ledger.schema import runs

PAGE_REASONS = 1000


def is_reason_expired(cutoff: datetime) -> ColumnElement[bool]:
    """Build the condition for a decision whose reason is expired; those of held runs never are."""
    held = select(runs.c.run_id).where(runs.c.held)
    return (decisions.c.reason != "") & (decisions.c.at < cutoff) & decisions.c.run_id.not_in(held)


def erase_expired_reasons(connection: Connection, cutoff: datetime, *, after: int) -> list[int]:
    """Empty the next PAGE_REASONS expired reasons of decisions with an id above `after`; return their ids in order."""
    query = select(decisions.c.decision_id).where(is_reason_expired(cutoff), decisions.c.decision_id > after)
    page = list(connection.scalars(query.order_by(decisions.c.decision_id).limit(PAGE_REASONS)))
    if page:
        connection.execute(update(decisions).where(decisions.c.decision_id.in_(page)).values(reason=""))
        record_action(connection, AuditAction.ERASE_REASONS, reasons=len(page))
    return page
