"""Codes of published results: LOINC for the grade of an eye, SNOMED CT for findings and places.

Sources: LOINC 2.80, answer list LL2117-1; the value set of CMS142 (SNOMED CT); `docs/dicom.md` says where each code was
verified. SNOMED CT has no verified concept for the absence of retinopathy, so grade 0 has a LOINC answer only.
"""

from dataclasses import dataclass

from worker.core.vocabulary import Eye, Grade

LOINC = "LN"
SNOMED_CT = "SCT"


@dataclass(frozen=True, slots=True)
class Code:
    """Value and meaning in a coding scheme, which is named as in DICOM (`LN`, `SCT`)."""

    scheme: str
    value: str
    meaning: str


SEVERITY_BY_EYE = {
    Eye.RIGHT: Code(LOINC, "71491-5", "Right eye Diabetic retinopathy severity level by Ophthalmoscopy"),
    Eye.LEFT: Code(LOINC, "71490-7", "Left eye Diabetic retinopathy severity level by Ophthalmoscopy"),
}
SEVERITY_LEVELS = {
    Grade.NO_DR: Code(LOINC, "LA18643-9", "No apparent retinopathy"),
    Grade.MILD: Code(LOINC, "LA18644-7", "Mild non-proliferative retinopathy"),
    Grade.MODERATE: Code(LOINC, "LA18645-4", "Moderate non-proliferative retinopathy"),
    Grade.SEVERE: Code(LOINC, "LA18646-2", "Severe non-proliferative retinopathy"),
    Grade.PROLIFERATIVE: Code(LOINC, "LA18648-8", "Proliferative retinopathy"),
}
FINDINGS = {
    Grade.MILD: Code(SNOMED_CT, "312903003", "Mild nonproliferative diabetic retinopathy"),
    Grade.MODERATE: Code(SNOMED_CT, "312904009", "Moderate nonproliferative diabetic retinopathy"),
    Grade.SEVERE: Code(SNOMED_CT, "312905005", "Severe nonproliferative diabetic retinopathy"),
    Grade.PROLIFERATIVE: Code(SNOMED_CT, "59276001", "Proliferative diabetic retinopathy"),
}
ENTIRE_EYES = {
    Eye.RIGHT: Code(SNOMED_CT, "362503005", "Entire right eye"),
    Eye.LEFT: Code(SNOMED_CT, "362502000", "Entire left eye"),
}
EYE_SCREENING_REPORT = Code(LOINC, "103592-2", "Retinal eye screening report Document")
