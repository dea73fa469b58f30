"""Check the database: it answers, and its schema serves this version."""

from producer.doctor.check import Check, Verdict, masked
from worker.core.errors import FundusError
from worker.core.settings import Settings
from worker.ledger.database import connect
from worker.ledger.migrate import read_schema_state


def check_database(settings: Settings) -> list[Check]:
    """One check of reach and level."""
    address = masked(settings.database_url.get_secret_value())
    try:
        engine = connect(settings)
        schema = read_schema_state(engine)
        engine.dispose()
    except FundusError as error:
        remedy = "start the database, or mend FUNDUS_DATABASE_URL"
        return [Check("database", Verdict.FAILED, masked(f"{address}: {error.detail}"), remedy)]
    if not schema.is_compatible:
        return [Check("database", Verdict.FAILED, f"{address}: {schema.problem}", schema.remedy)]
    newer = f", newer than this version's {schema.required} but compatible" if schema.is_newer else ""
    return [Check("database", Verdict.OK, f"{address} at schema revision {schema.revision}{newer}")]
