"""Acceptance of models at sites: verdicts about a model on the labelled photographs of a site.

The latest verdict about a model at a site counts, so that a later run can withdraw an acceptance.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, func, insert, select

from worker.core.errors import NotAcceptedError, UsageError
from worker.core.settings import SITE_PATTERN
from worker.core.vocabulary import AuditAction
from worker.ledger.audit_log import actor, record_action
from worker.ledger.database import read_transaction, write_transaction
from worker.ledger.runs import join_or
from worker.ledger.schema import site_acceptances


@dataclass(frozen=True, slots=True)
class SiteVerdict:
    """A verdict about a model at a site. `configurations`, `images` and `figures` are as in the table."""

    site: str
    model_id: str
    run_id: int
    configurations: Sequence[str]
    images: int
    figures: Mapping[str, Any]
    accepted: bool


def check_site_name(site: str) -> None:
    """Raise UsageError if this is not the name of a site."""
    if not re.fullmatch(SITE_PATTERN, site):
        raise UsageError(
            f"site {site[:80]!r} is not 1 to 50 letters, digits, '.', '_' or '-', starting with a letter or digit;"
            " fix: use a short name such as clinic-a"
        )


def record_verdict(engine: Engine, verdict: SiteVerdict, run_name: str) -> None:
    """Add a verdict and its entry in the audit log. Raises DatabaseError."""
    row = {name: getattr(verdict, name) for name in SiteVerdict.__slots__}
    with write_transaction(engine) as connection:
        connection.execute(
            insert(site_acceptances).inline().values(row | {"decided_by": actor(), "decided_at": datetime.now(UTC)})
        )
        del row["run_id"]
        record_action(connection, AuditAction.ACCEPT, run=run_name, **row)


def find_accepted_models(connection: Connection, site: str) -> list[str]:
    """Return the ids of the models that are accepted at a site, in the order of their acceptance."""
    table = site_acceptances
    latest = select(func.max(table.c.acceptance_id)).where(table.c.site == site).group_by(table.c.model_id)
    query = select(table.c.model_id).where(table.c.acceptance_id.in_(latest), table.c.accepted)
    return list(connection.scalars(query.order_by(table.c.acceptance_id)))


def describe_missing_validation(connection: Connection, site: str | None, model_id: str | None) -> str | None:
    """Return a warning if the model of a run is not accepted at its site.

    None for a run without a site, and until a model grades it.
    """
    if site is None or model_id is None or model_id in find_accepted_models(connection, site):
        return None
    return f"model not validated at this site: {site}"


def require_accepted_model(engine: Engine, site: str | None, model_id: str | None) -> str:
    """Return the model that may grade photographs of a site: the given one, or the only one that is accepted.

    Raises NotAcceptedError for a missing site, a model that is not accepted there, and several accepted ones without a
    choice; DatabaseError.
    """
    if site is None:
        raise NotAcceptedError("only accepted models may grade, but the site is missing; fix: give --site NAME")
    with read_transaction(engine) as connection:
        accepted = find_accepted_models(connection, site)
    remedy = f"fix: `fundus accept RUN --site {site}` with a labelled run of its photographs"
    if model_id is not None and model_id not in accepted:
        known = join_or("accepted are", accepted, "none is accepted")
        raise NotAcceptedError(
            f"model not validated at this site: {site} has not accepted {model_id}, {known}; {remedy}"
        )
    if not accepted:
        raise NotAcceptedError(f"model not validated at this site: {site} has accepted no model; {remedy}")
    if model_id is None and len(accepted) > 1:
        raise NotAcceptedError(f"site {site} has accepted {len(accepted)} models; fix: --model {' or '.join(accepted)}")
    return model_id or accepted[0]
