"""The agreement of a run's readers, for operators."""

from starlette.responses import Response

from worker.console.agreement import read_agreement
from worker.console.endpoints import RefusedError, RequestContext
from worker.console.pages.runs import find_run_or_404
from worker.console.reader_policy import read_rule
from worker.core.vocabulary import Role
from worker.ledger.database import read_transaction


def show_agreement(context: RequestContext) -> Response:
    """Show how the readers agree. Raises RefusedError (403) for others than operators: it would disclose readings."""
    if context.user.role is not Role.OPERATOR:
        raise RefusedError(403, f"This page requires the role {Role.OPERATOR}; your role is {context.user.role}.")
    run = find_run_or_404(context)
    engine = context.console.engine
    with read_transaction(engine) as connection:
        rule = read_rule(connection, run.run_id, context.console.settings.readers)
    return context.render("agreement.html", run=run, rule=rule, agreement=read_agreement(engine, run))
