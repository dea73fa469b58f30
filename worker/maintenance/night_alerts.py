"""Send the pending alerts of closed nights."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import select, update

from worker.ledger.database import read_transaction, write_transaction
from worker.ledger.schema import nights, runs

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from worker.core.telemetry.alerts import Alerts


def send_pending_alerts(engine: Engine, alerts: Alerts) -> None:
    """Send one alert for each closed night whose findings have not been sent, oldest first.

    A process killed between sending and recording sends the alert again. Raises AlertError when an address does not
    accept an alert, DatabaseError.
    """
    query = (
        select(nights.c.run_id, runs.c.name, nights.c.findings)
        .join(runs, runs.c.run_id == nights.c.run_id)
        .where(nights.c.closed_at.is_not(None), nights.c.told_at.is_(None))
        .order_by(nights.c.night)
    )
    with read_transaction(engine) as connection:
        pending = connection.execute(query).all()
    for night in pending:
        alerts.send(f"{night.name} needs attention", "\n".join(night.findings or ()))
        with write_transaction(engine) as connection:
            connection.execute(
                update(nights)
                .where(nights.c.run_id == night.run_id, nights.c.closed_at.is_not(None))
                .values(told_at=datetime.now(UTC))
            )
