"""Select colour fundus photographs among DICOM instances, by their headers."""

from collections.abc import Collection

from worker.core.dicom.instance_header import InstanceHeader
from worker.core.errors import ImageDecodeError, NotAPhotographError
from worker.core.vocabulary import DicomAdmission

OUR_MODEL_NAME = "fundus-grading"
"""Manufacturer's Model Name in every object that this project writes: none of them is graded again."""

OPHTHALMIC_8_BIT = "1.2.840.10008.5.1.4.1.1.77.1.5.1"
OPHTHALMIC_16_BIT = "1.2.840.10008.5.1.4.1.1.77.1.5.2"
VL_PHOTOGRAPHIC = "1.2.840.10008.5.1.4.1.1.77.1.4"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_OTHER_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.77.1.5.3": "stereometric relationship",
    "1.2.840.10008.5.1.4.1.1.77.1.5.4": "ophthalmic tomography (OCT)",
    "1.2.840.10008.5.1.4.1.1.77.1.5.5": "wide-field photography, stereographic projection",
    "1.2.840.10008.5.1.4.1.1.77.1.5.6": "wide-field photography, 3D coordinates",
    "1.2.840.10008.5.1.4.1.1.77.1.5.7": "OCT en face",
    "1.2.840.10008.5.1.4.1.1.77.1.5.8": "OCT B-scan volume analysis",
}


_ADMISSION_OF = {
    OPHTHALMIC_8_BIT: None,
    OPHTHALMIC_16_BIT: DicomAdmission.SIXTEEN_BIT,
    VL_PHOTOGRAPHIC: DicomAdmission.VL_PHOTOGRAPHIC,
    SECONDARY_CAPTURE: DicomAdmission.SECONDARY_CAPTURE,
}
_NOT_COLOUR = frozenset(
    ("REDFREE", "RED", "GREEN", "BLUE", "FA", "ICG", "AF", "FAF", "AUTOFLUORESCENCE", "IR", "INFRARED")
)
"""Values of Image Type, from the third on."""
_FILTERS = {
    **dict.fromkeys(("445084008", "111603"), "blue"),
    **dict.fromkeys(("445340000", "111604"), "yellow-green"),
    **dict.fromkeys(("445465004", "111601"), "green"),
    **dict.fromkeys(("422915004", "111605"), "blue-green"),
    **dict.fromkeys(("445169002", "111606"), "infrared"),
    **dict.fromkeys(("445279009", "111602"), "red"),
}
"""Code Values of CID 4204 with a colour, and those of older editions of the standard."""
_DEVICES = {
    "397247004": "slit lamp",
    "397522002": "keratoscope",
    "409903006": "external camera",
    "420827006": "pupillograph",
    "409899004": "specular microscope",
    "102321001": "operating microscope",
}
"""Code Values of CID 4202 that are no cameras for the retina."""
_RETINAL_REGIONS = frozenset(
    (
        *("5665001", "T-AA610"),  # retina
        *("81745001", "T-AA000", "40638003", "T-AA180"),  # eye, both eyes
        *("81016008", "T-AA630"),  # optic nerve head
        *("67046006", "T-AA621"),  # fovea
        *("68703001", "T-AA310"),  # choroid
    )
)
"""Code Values of CID 4209 that a photograph of the retina may have, in SNOMED CT and in the older SNOMED RT."""


def check_instance_kind(header: InstanceHeader, admitted: Collection[DicomAdmission]) -> None:
    """Raise NotAPhotographError for an instance that is no colour fundus photograph, with a code for the reason.

    Codes: `dicom_own_output`, `dicom_class`, `dicom_derived`, `dicom_filter`, `dicom_device`, `dicom_region`,
    `dicom_monochrome`, `dicom_frames`. A source that lists instances leaves these out and counts them by code. What the
    header does not say is no reason: the worker reads the whole header and checks again.
    """
    if (header.camera_model or "").lower() == OUR_MODEL_NAME:
        raise NotAPhotographError("DICOM instance was written by this program", code="dicom_own_output")
    _check_class(header.sop_class_uid, admitted)
    if header.image_type and header.image_type[0] != "ORIGINAL":
        raise NotAPhotographError(
            "DICOM image is derived from another image, not taken by a camera", code="dicom_derived"
        )
    _check_light(header)
    if other := header.devices & _DEVICES.keys():
        raise NotAPhotographError(
            f"DICOM image was taken by a {_DEVICES[min(other)]}, not by a fundus camera", code="dicom_device"
        )
    if header.regions and not header.regions & _RETINAL_REGIONS:
        raise NotAPhotographError("DICOM image does not show the retina, by its anatomic region", code="dicom_region")
    if (header.photometric_interpretation or "").startswith("MONOCHROME") and DicomAdmission.MONOCHROME not in admitted:
        raise NotAPhotographError(
            f"DICOM image is in grey; FUNDUS_DICOM_ADMIT does not name {DicomAdmission.MONOCHROME}",
            code="dicom_monochrome",
        )
    if header.frames > 1 and DicomAdmission.MULTI_FRAME not in admitted:
        raise NotAPhotographError(
            f"DICOM instance has {header.frames} frames; FUNDUS_DICOM_ADMIT does not name {DicomAdmission.MULTI_FRAME}",
            code="dicom_frames",
        )


def check_instance_eye(header: InstanceHeader) -> None:
    """Raise ImageDecodeError `dicom_laterality` if attributes of the header name different eyes."""
    if header.eye_is_contradictory:
        raise ImageDecodeError("DICOM header names the right eye and the left one", code="dicom_laterality")


def _check_class(uid: str, admitted: Collection[DicomAdmission]) -> None:
    if uid not in _ADMISSION_OF:
        name = _OTHER_CLASSES.get(uid, "of another kind")
        raise NotAPhotographError(f"DICOM instance is no photograph: SOP class {uid}, {name}", code="dicom_class")
    admission = _ADMISSION_OF[uid]
    if admission is not None and admission not in admitted:
        raise NotAPhotographError(
            f"DICOM instance has SOP class {uid}; FUNDUS_DICOM_ADMIT does not name {admission}", code="dicom_class"
        )


def _check_light(header: InstanceHeader) -> None:
    if kinds := _NOT_COLOUR & set(header.image_type[2:]):
        raise NotAPhotographError(f"DICOM image is not in colour: its Image Type has {min(kinds)}", code="dicom_filter")
    if filters := header.filters & _FILTERS.keys():
        raise NotAPhotographError(
            f"DICOM image was taken through a {_FILTERS[min(filters)]} filter", code="dicom_filter"
        )
    if header.has_contrast_agent:
        raise NotAPhotographError("DICOM image shows a contrast agent, as in an angiography", code="dicom_filter")
