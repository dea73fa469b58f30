from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.services.fhir_validators import find_errors
from tests.unit.worker.core.fhir.photographs import (
    MODEL,
    NOON,
    PUBLISHER,
    STUDY_UID,
    SYSTEM,
    photograph,
    study,
)
from worker.core.fhir.outcomes import PhotographOutcome, Reading, Study
from worker.core.fhir.resources import DISCLAIMER, Publisher
from worker.core.fhir.transaction import build_transaction
from worker.core.vocabulary import Eye, Status

UID_A, UID_B = "2.25.265356316286556246929712480354230982211", "2.25.33000000000000000000000000000000000001"
BOTH_EYES = study(photograph("a", 2, instance_uid=UID_A), photograph("b", 0, Eye.LEFT, instance_uid=UID_B))
EVERY_SHAPE = {
    "both eyes": BOTH_EYES,
    "ungradable": study(photograph("a", None)),
    "unreadable": study(photograph("a", None, status=Status.FAILED, reason="image_damaged")),
    "waiting": study(photograph("a", 1), photograph("b", None, status=Status.QUEUED, changed_at=None)),
    "final": study(photograph("a", 2, reading=Reading.FINAL, readers="anna, ben")),
    "amended": study(photograph("a", 2, model_grade=3, reading=Reading.AMENDED, readers="cleo")),
    "read as ungradable": study(photograph("a", None, model_grade=3, reading=Reading.FINAL, readers="anna")),
    "unknown eye": study(photograph("a", 4, Eye.UNKNOWN)),
    "no PACS": study(photograph("a", 1), key="p", study_uid=None, subject=None, taken=None),
    "two versions": study(photograph("a", 1), photograph("b", 4, Eye.LEFT, program_version=None)),
}


def resources(found: Study, kind: str, publisher: Publisher = PUBLISHER) -> list[dict[str, Any]]:
    bundle = build_transaction(found, publisher)
    assert bundle is not None
    return [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == kind]


def observation(*photographs: PhotographOutcome) -> dict[str, Any]:
    (only,) = resources(study(*photographs), "Observation")
    return only


@pytest.mark.parametrize("publisher", [PUBLISHER, Publisher(SYSTEM, "Eye Clinic North")], ids=["research", "clinical"])
@pytest.mark.parametrize("name", EVERY_SHAPE)
def test_every_shape_of_a_transaction_is_valid_r4(name: str, publisher: Publisher) -> None:
    bundle = build_transaction(EVERY_SHAPE[name], publisher)

    assert bundle is not None
    assert find_errors(bundle) == []


def test_validators_find_errors() -> None:
    bundle = build_transaction(BOTH_EYES, PUBLISHER)
    assert bundle is not None
    bundle["entry"][1]["resource"]["unknown"] = 1
    del bundle["entry"][2]["resource"]["code"]

    found = "\n".join(find_errors(bundle))
    assert "fhirkit: error at Bundle.entry[1].resource.unknown: unknown element" in found
    assert "fhirkit: error at Bundle.entry[2].resource.code: required element missing" in found
    assert "fhir.resources: " in found


def test_requests_are_conditional_on_identifiers() -> None:
    bundle = build_transaction(BOTH_EYES, PUBLISHER)

    assert bundle is not None
    assert [entry["request"] for entry in bundle["entry"]] == [
        {"method": "POST", "url": "Device", "ifNoneExist": f"identifier={SYSTEM}/model%7C{MODEL}/1.2.0"},
        {"method": "PUT", "url": f"Observation?identifier={SYSTEM}%7Cnight-1/{STUDY_UID}/right/{MODEL}"},
        {"method": "PUT", "url": f"Observation?identifier={SYSTEM}%7Cnight-1/{STUDY_UID}/left/{MODEL}"},
        {"method": "PUT", "url": f"DiagnosticReport?identifier={SYSTEM}/report%7Cnight-1/{STUDY_UID}/{MODEL}"},
    ]


def test_references_lead_to_entries_of_the_bundle() -> None:
    bundle = build_transaction(BOTH_EYES, PUBLISHER)

    assert bundle is not None
    device, right, left, report = bundle["entry"]
    assert right["resource"]["device"] == left["resource"]["device"] == {"reference": device["fullUrl"]}
    assert report["resource"]["result"] == [{"reference": right["fullUrl"]}, {"reference": left["fullUrl"]}]
    assert len({entry["fullUrl"] for entry in bundle["entry"]}) == 4


def test_same_study_gives_the_same_bytes_in_any_order() -> None:
    turned = replace(BOTH_EYES, photographs=BOTH_EYES.photographs[::-1])

    assert build_transaction(turned, PUBLISHER) == build_transaction(BOTH_EYES, PUBLISHER)


def test_graded_eye_has_severity_by_loinc_and_snomed() -> None:
    right, left = resources(BOTH_EYES, "Observation")

    assert right["code"]["coding"][0]["code"] == "71491-5"
    assert [one["code"] for one in right["valueCodeableConcept"]["coding"]] == ["LA18645-4", "312904009"]
    assert right["bodySite"]["coding"][0]["code"] == "362503005"
    assert left["code"]["coding"][0]["code"] == "71490-7"
    assert [one["code"] for one in left["valueCodeableConcept"]["coding"]] == ["LA18643-9"]
    assert left["bodySite"]["coding"][0]["code"] == "362502000"
    assert right["status"] == left["status"] == "preliminary"
    assert (right["effectiveDateTime"], right["issued"]) == ("2026-11-28", "2026-11-29T12:00:00+00:00")
    assert right["subject"] == {"type": "Patient", "identifier": {"system": f"{SYSTEM}/patient", "value": "p1"}}


def test_components_support_the_grade() -> None:
    components = {one["code"]["text"]: one for one in observation(photograph("a", 2, instance_uid=UID_A))["component"]}

    assert components["Referable diabetic retinopathy"]["valueBoolean"] is True
    outputs = [components[f"Probability of grade {k} or worse, by software"]["valueQuantity"] for k in range(1, 5)]
    assert [one["value"] for one in outputs] == [0.9, 0.9, 0.1, 0.1]
    assert components["SOP Instance UID of the photograph"]["valueString"] == UID_A
    assert "Grade by software" not in components


def test_every_photograph_of_the_eye_is_named() -> None:
    named = observation(
        photograph("a", 0, instance_uid=UID_A), photograph("b", None), photograph("c", None, status=Status.QUEUED)
    )["derivedFrom"]

    assert named == [
        {"type": "ImagingStudy", "identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{STUDY_UID}"}},
        {"type": "Media", "identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{UID_A}"}},
        {"type": "Media", "identifier": {"system": f"{SYSTEM}/image", "value": "b"}},
    ]


def test_ungradable_eye_has_an_absence_and_no_value() -> None:
    found = observation(photograph("a", None), photograph("b", None, reason="too_dark"))

    assert "valueCodeableConcept" not in found
    assert found["dataAbsentReason"]["coding"][0]["code"] == "unknown"
    assert found["dataAbsentReason"]["text"] == "Not gradable: blurred, too_dark"
    assert "component" not in found


@pytest.mark.parametrize(
    ("reading", "status"), [("none", "preliminary"), ("pending", "preliminary"), ("final", "final"), ("amended",) * 2]
)
def test_status_follows_the_reading(reading: str, status: str) -> None:
    found = study(photograph("a", 1, model_grade=2, reading=Reading(reading), readers="anna"))

    assert [one["status"] for one in resources(found, "Observation") + resources(found, "DiagnosticReport")] == [
        status,
        status,
    ]


def test_report_is_preliminary_until_both_eyes_are_read() -> None:
    right = photograph("a", 1, reading=Reading.FINAL, readers="anna")

    (report,) = resources(study(right, photograph("b", 0, Eye.LEFT)), "DiagnosticReport")

    assert report["status"] == "preliminary"


def test_readers_grade_is_next_to_that_of_the_software() -> None:
    found = observation(photograph("a", 1, model_grade=3, reading=Reading.FINAL, readers="anna, ben"))

    assert found["valueCodeableConcept"]["coding"][0]["code"] == "LA18644-7"
    assert found["performer"] == [{"display": "anna, ben"}]
    assert found["method"]["text"].endswith("1 of 1 photographs read by a person")
    by_software = next(one for one in found["component"] if one["code"]["text"] == "Grade by software")
    assert by_software["valueCodeableConcept"]["coding"][0]["code"] == "LA18646-2"


def test_report_concludes_by_eye_with_the_code_of_the_worse_one() -> None:
    found = replace(BOTH_EYES, photographs=(*BOTH_EYES.photographs, photograph("c", 4, Eye.UNKNOWN)))
    (report,) = resources(found, "DiagnosticReport")

    assert report["conclusion"] == (
        "Right eye: moderate non-proliferative retinopathy. Left eye: no apparent retinopathy. "
        f"Photographs of an unknown eye, which are not reported: 1. By software, not read by a person. {DISCLAIMER}"
    )
    assert report["conclusionCode"][0]["coding"][0]["code"] == "312904009"
    assert report["code"]["coding"][0]["code"] == "103592-2"


def test_photograph_of_an_unknown_eye_has_no_observation() -> None:
    assert resources(study(photograph("a", 4, Eye.UNKNOWN)), "Observation") == []


def test_organisation_that_answers_replaces_the_disclaimer() -> None:
    bundle = str(build_transaction(BOTH_EYES, Publisher(SYSTEM, "Eye Clinic North")))

    assert DISCLAIMER not in bundle
    assert "Eye Clinic North" in bundle
    assert DISCLAIMER in str(build_transaction(BOTH_EYES, PUBLISHER))


def test_each_program_version_is_a_device() -> None:
    found = study(photograph("a", 1), photograph("b", 1, Eye.LEFT, program_version=None))

    devices = resources(found, "Device")
    assert [one["identifier"][0]["value"] for one in devices] == [f"{MODEL}/1.2.0", MODEL]


def test_time_of_issue_is_that_of_the_last_change() -> None:
    later = photograph("b", 1, Eye.LEFT, changed_at=NOON + timedelta(hours=1))

    (report,) = resources(study(photograph("a", 1), later), "DiagnosticReport")

    assert report["issued"] == "2026-11-29T13:00:00+00:00"


def test_unsettled_study_has_no_transaction() -> None:
    assert build_transaction(study(photograph("a", None, status=Status.QUEUED, changed_at=None)), PUBLISHER) is None
