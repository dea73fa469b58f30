"""Build the transaction that publishes the outcome of a study: Device, an Observation for each eye, DiagnosticReport.

Observation and DiagnosticReport are conditional updates and Device is a conditional creation, each by an identifier
that follows from run, study and model: a repeated transaction changes nothing, and a reader's grade changes the
resources that the model's grade made. The content follows from the ledger alone, without the clock.

Source: HL7 FHIR R4 (4.0.1), https://hl7.org/fhir/R4/http.html#transaction.
"""

from typing import Any
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

from worker.core.fhir.outcomes import Study, derive_eye_outcomes
from worker.core.fhir.resources import Publisher, Resource, build_device, build_observation, build_report


def build_transaction(study: Study, publisher: Publisher) -> Resource | None:
    """Build the transaction bundle of a study; None while no photograph of it is settled.

    Photographs of an unknown eye have no Observation; the conclusion of the report counts them.
    """
    if study.changed_at is None:
        return None
    eyes = derive_eye_outcomes(study)
    versions = dict.fromkeys(eye.shown.program_version for eye in eyes)
    devices = {version: build_device(study, version, publisher) for version in versions}
    observations = [
        build_observation(study, eye, _refer_to(devices[eye.shown.program_version]), publisher) for eye in eyes
    ]
    report = build_report(study, eyes, [_refer_to(one) for one in observations], publisher)
    entries = [_create(device) for device in devices.values()] + [_update(one) for one in (*observations, report)]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def _create(resource: Resource) -> dict[str, Any]:
    request = {"method": "POST", "url": resource["resourceType"], "ifNoneExist": _condition(resource)}
    return {"fullUrl": _refer_to(resource), "resource": resource, "request": request}


def _update(resource: Resource) -> dict[str, Any]:
    request = {"method": "PUT", "url": f"{resource['resourceType']}?{_condition(resource)}"}
    return {"fullUrl": _refer_to(resource), "resource": resource, "request": request}


def _condition(resource: Resource) -> str:
    identifier = resource["identifier"][0]
    return "identifier=" + quote(f"{identifier['system']}|{identifier['value']}", safe="/:")


def _refer_to(resource: Resource) -> str:
    identifier = resource["identifier"][0]
    return uuid5(NAMESPACE_URL, f"{resource['resourceType']} {identifier['system']}|{identifier['value']}").urn
