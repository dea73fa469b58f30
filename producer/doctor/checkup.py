"""Run all checks in order."""

from collections.abc import Iterator

from producer.doctor.broker import check_broker
from producer.doctor.check import Check
from producer.doctor.database import check_database
from producer.doctor.fhir import check_fhir
from producer.doctor.machine import check_machine
from producer.doctor.model import check_model
from producer.doctor.pacs import check_pacs
from producer.doctor.settings import check_settings
from producer.doctor.storage import check_storage


def run_checks() -> Iterator[Check]:
    """Yield the result of each check as it completes. Invalid settings end the checks, as the others need them."""
    settings, findings = check_settings()
    yield from findings
    if settings is None:
        return
    for check in (check_database, check_broker, check_storage, check_pacs, check_fhir, check_machine, check_model):
        yield from check(settings)
