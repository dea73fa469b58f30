"""Check that the database answers and that its schema suits this version."""

from producer.doctor.check import Check, CheckStatus, mask_credentials
from worker.core.errors import FundusError
from worker.core.settings import Settings
from worker.ledger.database import connect
from worker.ledger.migrate import read_schema_state


def check_database(settings: Settings) -> list[Check]:
    """Connect and compare the schema's revision with this version's."""
    address = mask_credentials(settings.database_url.get_secret_value())
    try:
        engine = connect(settings)
        schema = read_schema_state(engine)
        engine.dispose()
    except FundusError as error:
        remedy = "start the database or correct FUNDUS_DATABASE_URL"
        return [Check("database", CheckStatus.FAILED, mask_credentials(f"{address}: {error.detail}"), remedy)]
    if not schema.is_compatible:
        return [Check("database", CheckStatus.FAILED, f"{address}: {schema.problem}", schema.remedy)]
    newer = f", newer than this version's {schema.required} but compatible" if schema.is_newer else ""
    return [Check("database", CheckStatus.OK, f"{address} at schema revision {schema.revision}{newer}")]
