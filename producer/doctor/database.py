"""Check that the database answers and that its schema suits this version."""

from pathlib import Path

from producer.doctor.check import Check, CheckStatus, mask_credentials
from worker.core.errors import FundusError
from worker.core.settings import Settings
from worker.ledger.database import connect
from worker.ledger.database_tls import REMEDY, find_unverified_host
from worker.ledger.migrate import read_schema_state
from worker.ledger.sqlite_file import OTHERS, find_file, find_public_mode


def check_database(settings: Settings) -> list[Check]:
    """Connect and compare the schema's revision with this version's."""
    address = mask_credentials(settings.database_url.get_secret_value())
    try:
        engine = connect(settings)
        schema = read_schema_state(engine)
        public_mode, unverified = find_public_mode(engine), find_unverified_host(engine.url)
        engine.dispose()
    except FundusError as error:
        remedy = "start the database or correct FUNDUS_DATABASE_URL"
        return [Check("database", CheckStatus.FAILED, mask_credentials(f"{address}: {error.detail}"), remedy)]
    if not schema.is_compatible:
        return [Check("database", CheckStatus.FAILED, f"{address}: {schema.problem}", schema.remedy)]
    newer = f", newer than this version's {schema.required} but compatible" if schema.is_newer else ""
    reached = Check("database", CheckStatus.OK, f"{address} at schema revision {schema.revision}{newer}")
    checks = [reached]
    if public_mode is not None:
        checks.append(_check_mode(find_file(engine), public_mode))
    if unverified is not None:
        detail = f"the certificate of {unverified} is not checked: another server can read the password"
        checks.append(Check("database", CheckStatus.WARNING, detail, REMEDY))
    return checks


def _check_mode(file: Path | None, mode: int) -> Check:
    detail = f"every user of this machine can read {file} (mode {mode:o})"
    remedy = f"run `fundus db upgrade`, which sets its mode to {mode & ~OTHERS:o}"
    return Check("database", CheckStatus.WARNING, detail, remedy)
