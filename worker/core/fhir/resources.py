"""FHIR R4 resources of one study: the software as Device, an Observation for each eye, the DiagnosticReport.

Source: HL7 FHIR R4 (4.0.1), https://hl7.org/fhir/R4/observation.html and diagnosticreport.html.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from worker.core.clinical_codes import (
    ENTIRE_EYES,
    EYE_SCREENING_REPORT,
    FINDINGS,
    SEVERITY_BY_EYE,
    SEVERITY_LEVELS,
    Code,
)
from worker.core.fhir.outcomes import Absence, EyeOutcome, PhotographOutcome, Reading, Study
from worker.core.vocabulary import REFERABLE_FROM, Eye, Grade

Resource = dict[str, Any]
"""A FHIR resource or element: JSON types by name."""

DISCLAIMER = "Research use only. Not a medical device; no decision about a patient without a qualified reader."
_SYSTEMS = {"LN": "http://loinc.org", "SCT": "http://snomed.info/sct"}
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
_STATUSES = {
    Reading.NONE: "preliminary",
    Reading.PENDING: "preliminary",
    Reading.FINAL: "final",
    Reading.AMENDED: "amended",
}
_ABSENCES = {
    Absence.UNGRADABLE: ("Unknown", "Not gradable"),
    Absence.UNREADABLE: ("Error", "The photograph could not be read"),
    Absence.WAITING: ("Temporarily Unknown", "Not all photographs of this eye are graded yet"),
}
_EYES = {Eye.RIGHT: "Right eye", Eye.LEFT: "Left eye"}
_BY_SOFTWARE = "By software, not read by a person."
_WITHDRAWN = "a reading was withdrawn"


@dataclass(frozen=True, slots=True)
class Publisher:
    """Who publishes.

    system: URI under which identifiers are unique, without a slash at the end. organisation: answers for the clinical
    use of the results; without one, each resource has the DISCLAIMER.
    """

    system: str
    organisation: str | None = None


def build_device(study: Study, program_version: str | None, publisher: Publisher) -> Resource:
    """Build the Device: one for each model and program version, None if the version is not recorded."""
    value = study.model_id if program_version is None else f"{study.model_id}/{program_version}"
    version = [{"type": {"text": "model"}, "value": study.model_id}]
    if program_version is not None:
        version.insert(0, {"type": {"text": "program"}, "value": program_version})
    return {
        "resourceType": "Device",
        "identifier": [{"system": f"{publisher.system}/model", "value": value}],
        "status": "active",
        "deviceName": [{"name": f"fundus-grading {study.model_name}", "type": "model-name"}],
        "type": {"text": "Diabetic retinopathy grading software"},
        "version": version,
        **_notes(publisher),
    }


def build_observation(study: Study, eye: EyeOutcome, device: str, publisher: Publisher) -> Resource:
    """Build the Observation of an eye. device: reference to the Device."""
    return _without_none(
        {
            "resourceType": "Observation",
            "identifier": [{"system": publisher.system, "value": _name(study, eye.eye)}],
            "status": _STATUSES[eye.reading],
            "category": [_concept(f"{_TERMINOLOGY}/observation-category", "imaging", "Imaging")],
            "code": _code(SEVERITY_BY_EYE[eye.eye]),
            **_circumstances(study),
            "performer": [{"display": eye.shown.readers}] if eye.shown.readers else None,
            **_value(eye),
            "bodySite": _code(ENTIRE_EYES[eye.eye]),
            "method": {"text": _method(eye)},
            "device": {"reference": device},
            "derivedFrom": [*_studies(study), *(_photograph(one, publisher) for one in eye.considered)],
            "component": list(_components(eye)) or None,
            **_notes(publisher),
        }
    )


def build_report(
    study: Study, eyes: Sequence[EyeOutcome], observations: Sequence[str], publisher: Publisher
) -> Resource:
    """Build the DiagnosticReport. observations: references to those of the eyes, in their order."""
    worst = max((eye.grade for eye in eyes if eye.grade is not None), default=Grade.NO_DR)
    return _without_none(
        {
            "resourceType": "DiagnosticReport",
            "identifier": [{"system": f"{publisher.system}/report", "value": _name(study)}],
            "status": _report_status(eyes),
            "category": [_concept(f"{_TERMINOLOGY}/v2-0074", "OTH", "Other")],
            "code": _code(EYE_SCREENING_REPORT),
            **_circumstances(study),
            "performer": [{"display": publisher.organisation or "fundus-grading"}],
            "result": [{"reference": one} for one in observations] or None,
            "imagingStudy": _studies(study) or None,
            "conclusion": _conclude(study, eyes, publisher),
            "conclusionCode": [_code(FINDINGS[worst])] if worst in FINDINGS else None,
        }
    )


def _name(study: Study, eye: Eye | None = None) -> str:
    return "/".join([study.run, study.key, *([] if eye is None else [eye]), study.model_id])


def _circumstances(study: Study) -> Resource:
    return {
        "subject": None if study.subject is None else {"type": "Patient", "identifier": dict(study.subject)},
        "effectiveDateTime": None if study.taken is None else study.taken.isoformat(),
        "issued": study.changed_at.isoformat() if study.changed_at else None,
    }


def _value(eye: EyeOutcome) -> Resource:
    if eye.grade is not None:
        return {"valueCodeableConcept": _graded(eye.grade)}
    assert eye.absence is not None  # noqa: S101 - by definition of EyeOutcome
    display, text = _ABSENCES[eye.absence]
    concept = _concept(f"{_TERMINOLOGY}/data-absent-reason", eye.absence, display)
    return {
        "dataAbsentReason": concept | {"text": ": ".join([text, *([", ".join(eye.reasons)] if eye.reasons else [])])}
    }


def _graded(grade: Grade) -> Resource:
    level = SEVERITY_LEVELS[grade]
    codes = [level, *([FINDINGS[grade]] if grade in FINDINGS else [])]
    return {"coding": [_coding(code) for code in codes], "text": level.meaning}


def _components(eye: EyeOutcome) -> Iterable[Resource]:
    """Yield what supports the value; the codes of components are texts, as there is no code system for them."""
    shown = eye.shown
    if eye.grade is not None:
        yield {"code": {"text": "Referable diabetic retinopathy"}, "valueBoolean": eye.grade >= REFERABLE_FROM}
    if shown.model_grade is not None and shown.reading is not Reading.NONE:
        yield {
            "code": {"text": "Grade by software"},
            "valueCodeableConcept": _graded(Grade(shown.model_grade)),
        }
    if eye.grade is not None and shown.outputs is not None:
        for grade, output in enumerate(shown.outputs, start=1):
            quantity = {"value": output, "system": "http://unitsofmeasure.org", "code": "1"}
            yield {"code": {"text": f"Probability of grade {grade} or worse, by software"}, "valueQuantity": quantity}
    if shown.instance_uid is not None:
        yield {"code": {"text": "SOP Instance UID of the photograph"}, "valueString": shown.instance_uid}


def _method(eye: EyeOutcome) -> str:
    # The LOINC code says ophthalmoscopy.
    read = "not read by a person"
    if eye.read:
        read = f"{eye.read} of {len(eye.considered)} photographs read by a person"
    if any(one.is_withdrawn for one in eye.considered):
        read += f"; {_WITHDRAWN}"
    return f"Colour fundus photograph graded by software, ICDR scale; {read}"


def _photograph(photograph: PhotographOutcome, publisher: Publisher) -> Resource:
    """Refer to a photograph by its SOP Instance UID, or by its image id."""
    if photograph.instance_uid is not None:
        return {"type": "Media", "identifier": _dicom_identifier(photograph.instance_uid)}
    return {"type": "Media", "identifier": {"system": f"{publisher.system}/image", "value": photograph.image_id}}


def _studies(study: Study) -> list[Resource]:
    if study.study_uid is None:
        return []
    return [{"type": "ImagingStudy", "identifier": _dicom_identifier(study.study_uid)}]


def _dicom_identifier(uid: str) -> Resource:
    return {"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}


def _report_status(eyes: Sequence[EyeOutcome]) -> str:
    """Return the least advanced status of the eyes."""
    statuses = {_STATUSES[eye.reading] for eye in eyes}
    return (
        "preliminary" if not statuses or "preliminary" in statuses else "amended" if "amended" in statuses else "final"
    )


def _conclude(study: Study, eyes: Sequence[EyeOutcome], publisher: Publisher) -> str:
    sentences = [f"{_EYES[eye.eye]}: {_describe(eye)}." for eye in eyes]
    if unknown := sum(one.eye is Eye.UNKNOWN for one in study.photographs):
        sentences.append(f"Photographs of an unknown eye, which are not reported: {unknown}.")
    if not any(eye.read for eye in eyes):
        sentences.append(_BY_SOFTWARE)
    if publisher.organisation is None:
        sentences.append(DISCLAIMER)
    return " ".join(sentences)


def _describe(eye: EyeOutcome) -> str:
    if eye.grade is not None:
        level = SEVERITY_LEVELS[eye.grade].meaning
        return level[0].lower() + level[1:]
    text: str = _value(eye)["dataAbsentReason"]["text"]
    return text[0].lower() + text[1:]


def _notes(publisher: Publisher) -> Resource:
    return {} if publisher.organisation is not None else {"note": [{"text": DISCLAIMER}]}


def _code(code: Code) -> Resource:
    return {"coding": [_coding(code)]}


def _coding(code: Code) -> Resource:
    return {"system": _SYSTEMS[code.scheme], "code": code.value, "display": code.meaning}


def _concept(system: str, code: str, display: str) -> Resource:
    return {"coding": [{"system": system, "code": str(code), "display": display}]}


def _without_none(resource: Resource) -> Resource:
    return {name: value for name, value in resource.items() if value is not None}
