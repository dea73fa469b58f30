"""Build the structured report of one image: Comprehensive 3D SR, templates TID 1500 and TID 1501 (DICOM PS3.16)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    ImageContentItem,
    LanguageOfContentItemAndDescendants,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PersonObserverIdentifyingAttributes,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    TrackingIdentifier,
)
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, SecondaryCaptureImageStorage

from worker import __version__
from worker.core.clinical_codes import SEVERITY_BY_EYE, SEVERITY_LEVELS, Code
from worker.core.clinical_labels import OUTPUT_LABELS, UNGRADABLE_REASONS
from worker.core.dicom.derived_uid import derive_uid
from worker.core.dicom.selection import OUR_MODEL_NAME
from worker.core.vocabulary import REFERABLE_FROM, Eye, Grade
from worker.publishing.dicom.object_header import MANUFACTURER, Labelling, add_header, to_local_time, write_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.core.uris import InstancePath
    from worker.ledger.published_outcomes import PublishedOutcome
    from worker.publishing.dicom.photograph import Photograph

SCHEME = "99FUNDUS"
MODEL_SERIES = "AI DR grading, not read by a person"
READING_SERIES = "DR grading by a person, after AI"
BY_READER = "ungradable_by_reader"
MAX_MEANING_CHARS = 64
DECIMALS = 4

_REPORT = CodedConcept("126000", "DCM", "Imaging Measurement Report")
# A code outside of context group 100 is an error of the validator.
_PROCEDURE = CodedConcept("363679005", "SCT", "Imaging procedure")
_FINDING = CodedConcept("4855003", "SCT", "Retinopathy due to diabetes mellitus")
_RETINA = CodedConcept("5665001", "SCT", "Retina")
_SIDES = {Eye.RIGHT: CodedConcept("24028007", "SCT", "Right"), Eye.LEFT: CodedConcept("7771000", "SCT", "Left")}
_YES, _NO = CodedConcept("373066001", "SCT", "Yes"), CodedConcept("373067005", "SCT", "No")
_ENGLISH = CodedConcept("en-US", "RFC5646", "English (United States)")
_DEVICE, _PERSON = CodedConcept("121007", "DCM", "Device"), CodedConcept("121006", "DCM", "Person")
_NO_UNITS = CodedConcept("1", "UCUM", "no units")
_AI = CodedConcept("123110", "DCM", "Artificial Intelligence")
_IMAGE_QUALITY = CodedConcept("111101", "DCM", "Image Quality")
_VISUAL_EXPLANATION = CodedConcept("130401", "DCM", "Visual explanation")
_REFERABLE = CodedConcept("REFERABLE", SCHEME, "Referable diabetic retinopathy (grade 2 or worse)")
_LATEST_READING = CodedConcept("READING", SCHEME, "Latest reading by a person")
_WITHDRAWN = CodedConcept("WITHDRAWN", SCHEME, "Withdrawn by its reader")
_SEVERITY_UNKNOWN_EYE = CodedConcept("SEVERITY", SCHEME, "Diabetic retinopathy severity level, eye unknown")
_SCHEME_ITEM = CodingSchemeIdentificationItem(
    SCHEME,
    name="Codes of the fundus-grading project",
    responsible_organization=MANUFACTURER,
    uid=derive_uid("coding scheme"),
)


def build_report(
    outcome: PublishedOutcome,
    photograph: Photograph,
    labelling: Labelling,
    *,
    overlay: InstancePath | None,
    predecessors: Sequence[InstancePath],
) -> bytes:
    """Return the DICOM file of the report; the same arguments give the same bytes.

    overlay: the stored overlay, which the report names as its visual explanation. predecessors: the stored reports
    that this one replaces.
    """
    source = _refer(photograph.path, photograph.sop_class_uid)
    explanation = None if overlay is None else _refer(overlay, SecondaryCaptureImageStorage)
    reading = outcome.reading
    is_verified = reading is not None and labelling.organisation is not None
    report = Comprehensive3DSR(
        evidence=[source, *([] if explanation is None else [explanation])],
        content=_build_content(outcome, photograph, explanation),
        series_instance_uid=outcome.publication.uid,  # set by `add_header`, as are all below but the flags
        series_number=1,
        sop_instance_uid=outcome.publication.uid,
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        is_final=is_verified,
        is_verified=is_verified,
        verifying_observer_name=_to_person_name(reading.readers[-1]) if is_verified and reading else None,
        verifying_organization=labelling.organisation,
        previous_versions=[_refer(one, Comprehensive3DSRStorage) for one in predecessors] or None,
        coding_schemes=[_SCHEME_ITEM],
    )
    # The library writes the present time and its own name there.
    del report.ContributingEquipmentSequence
    add_header(report, outcome, photograph, labelling, READING_SERIES if outcome.follows_reading else MODEL_SERIES)
    if is_verified and reading:
        at = to_local_time(reading.at, photograph, labelling)
        report.VerifyingObserverSequence[0].VerificationDateTime = at.strftime("%Y%m%d%H%M%S%z")
    return write_file(Dataset(report))


def _build_content(outcome: PublishedOutcome, photograph: Photograph, explanation: Dataset | None) -> MeasurementReport:
    side = _SIDES.get(photograph.eye)
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=derive_uid("tracking", outcome.run, outcome.publication.image_id),
            identifier=f"{outcome.run}/{outcome.publication.image_id}",
        ),
        finding_type=_FINDING,
        algorithm_id=_identify_algorithm(outcome) if outcome.reading is None else None,
        finding_sites=[FindingSite(_RETINA, laterality=side)],
        measurements=_list_probabilities(outcome) if outcome.reading is None else None,
        qualitative_evaluations=_evaluate(outcome, photograph.eye),
        source_images=[SourceImageForMeasurementGroup(photograph.sop_class_uid, photograph.path.instance)],
    )
    if explanation is not None:
        group[0].ContentSequence.append(
            ImageContentItem(
                name=_VISUAL_EXPLANATION,
                referenced_sop_class_uid=explanation.SOPClassUID,
                referenced_sop_instance_uid=explanation.SOPInstanceUID,
                relationship_type=RelationshipTypeValues.CONTAINS,
            )
        )
    return MeasurementReport(
        observation_context=_name_observers(outcome),
        procedure_reported=_PROCEDURE,
        imaging_measurements=[group],
        title=_REPORT,
        language_of_content_item_and_descendants=LanguageOfContentItemAndDescendants(_ENGLISH),
    )


def _name_observers(outcome: PublishedOutcome) -> ObservationContext:
    """Name the software; for a reading, the readers who agree on it."""
    if outcome.reading is None:
        device = DeviceObserverIdentifyingAttributes(
            uid=derive_uid("device", outcome.model_id),
            name=OUR_MODEL_NAME,
            manufacturer_name=MANUFACTURER,
            model_name=outcome.model_name,
            serial_number=outcome.model_id,
        )
        return ObservationContext(observer_device_context=ObserverContext(_DEVICE, device))
    first, *others = (
        ObserverContext(_PERSON, PersonObserverIdentifyingAttributes(name=_to_person_name(reader), login_name=reader))
        for reader in outcome.reading.readers
    )
    context = ObservationContext(observer_person_context=first)
    for other in others:
        context.extend(other)
    return context


def _identify_algorithm(outcome: PublishedOutcome) -> AlgorithmIdentification:
    parameters = [f"model {outcome.model_id}", f"engine {outcome.engine}", f"precision {outcome.precision}"]
    return AlgorithmIdentification(
        name=f"{OUR_MODEL_NAME} {outcome.model_name}",
        version=outcome.program_version or __version__,
        parameters=parameters if outcome.engine else parameters[:1],
        family=_AI,
    )


def _list_probabilities(outcome: PublishedOutcome) -> list[Measurement] | None:
    return [
        Measurement(
            CodedConcept(f"P{int(grade)}", SCHEME, f"Model score: {label}"),
            value=round(outcome.probabilities[grade], DECIMALS),
            unit=_NO_UNITS,
        )
        for grade, label in OUTPUT_LABELS.items()
        if outcome.probabilities
    ] or None


def _evaluate(outcome: PublishedOutcome, eye: Eye) -> list[QualitativeEvaluation]:
    """Return grade and referral, or the reason why the image is ungradable; and whether a reading was withdrawn."""
    withdrawal = [] if outcome.retracted is None else [QualitativeEvaluation(_LATEST_READING, _WITHDRAWN)]
    return [*_evaluate_image(outcome, eye), *withdrawal]


def _evaluate_image(outcome: PublishedOutcome, eye: Eye) -> list[QualitativeEvaluation]:
    grade = outcome.grade if outcome.reading is None else outcome.reading.grade
    if grade is None:
        reason = (outcome.error_code or "ungradable") if outcome.reading is None else BY_READER
        meaning = UNGRADABLE_REASONS.get(reason, reason.replace("_", " "))
        quality = CodedConcept(reason.upper()[:16], SCHEME, f"Ungradable: {meaning}"[:MAX_MEANING_CHARS])
        return [QualitativeEvaluation(_IMAGE_QUALITY, quality)]
    severity = _to_concept(SEVERITY_BY_EYE[eye]) if eye in SEVERITY_BY_EYE else _SEVERITY_UNKNOWN_EYE
    return [
        QualitativeEvaluation(severity, _to_concept(SEVERITY_LEVELS[Grade(grade)])),
        QualitativeEvaluation(_REFERABLE, _YES if grade >= REFERABLE_FROM else _NO),
    ]


def _to_concept(code: Code) -> CodedConcept:
    return CodedConcept(code.value, code.scheme, code.meaning[:MAX_MEANING_CHARS])


def _to_person_name(reader: str) -> str:
    """Return the name of a console user as a person name of one component."""
    return f"{reader}^"


def _refer(path: InstancePath, sop_class_uid: str) -> Dataset:
    """Return the least data set of an instance that a report can refer to; it has no attribute of a patient."""
    instance = Dataset()
    instance.StudyInstanceUID, instance.SeriesInstanceUID = path.study, path.series
    instance.SOPInstanceUID, instance.SOPClassUID = path.instance, sop_class_uid
    for name in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex"):
        setattr(instance, name, None)
    for name in ("StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName"):
        setattr(instance, name, None)
    return instance
