"""Check the database: it answers, and its schema is at this version's level."""

from producer.doctor.check import Check, Verdict, masked
from worker.contract.database import connect
from worker.contract.errors import FundusError
from worker.contract.migrate import levels
from worker.contract.settings import Settings


def check_database(settings: Settings) -> list[Check]:
    """One check of reach and level."""
    address = masked(settings.database_url.get_secret_value())
    try:
        engine = connect(settings)
        level, needed = levels(engine)
        engine.dispose()
    except FundusError as error:
        remedy = "start the database, or mend FUNDUS_DATABASE_URL"
        return [Check("database", Verdict.FAILED, masked(f"{address}: {error.detail}"), remedy)]
    if level != needed:
        detail = f"{address} is at level {level or 'none'}, this version needs {needed}"
        return [Check("database", Verdict.FAILED, detail, "run `fundus db upgrade`, or install the version it is for")]
    return [Check("database", Verdict.OK, f"{address} at level {level}")]
