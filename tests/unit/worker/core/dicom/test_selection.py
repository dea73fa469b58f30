"""Colour fundus photographs are selected by header; everything else is refused with a code."""

from dataclasses import replace

import pytest

from worker.core.dicom.instance_header import InstanceHeader
from worker.core.dicom.selection import (
    OPHTHALMIC_8_BIT,
    OPHTHALMIC_16_BIT,
    OUR_MODEL_NAME,
    SECONDARY_CAPTURE,
    VL_PHOTOGRAPHIC,
    check_instance_eye,
    check_instance_kind,
)
from worker.core.errors import ImageDecodeError, NotAPhotographError
from worker.core.vocabulary import DicomAdmission, Eye
from worker.report.remedies import DEFAULT, find_remedy

PHOTOGRAPH = InstanceHeader(
    OPHTHALMIC_8_BIT,
    "2.25.17",
    image_type=("ORIGINAL", "PRIMARY", "", "COLOR"),
    devices=frozenset({"409898007"}),
    regions=frozenset({"5665001"}),
    filters=frozenset({"111609"}),
    photometric_interpretation="YBR_FULL_422",
)


@pytest.mark.parametrize(
    "header",
    [
        PHOTOGRAPH,
        InstanceHeader(OPHTHALMIC_8_BIT, "2.25.17"),
        replace(PHOTOGRAPH, eye=Eye.LEFT, camera_model="NW400"),
        replace(PHOTOGRAPH, regions=frozenset({"5665001", "41296002"})),
    ],
)
def test_colour_photographs_are_selected(header: InstanceHeader) -> None:
    check_instance_kind(header, ())


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.77.1.5.4"}, "dicom_class"),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.88.34"}, "dicom_class"),
        ({"camera_model": OUR_MODEL_NAME}, "dicom_own_output"),
        ({"camera_model": "Fundus-Grading"}, "dicom_own_output"),
        ({"image_type": ("DERIVED", "SECONDARY")}, "dicom_derived"),
        ({"image_type": ("",)}, "dicom_derived"),
        ({"image_type": ("ORIGINAL", "PRIMARY", "", "REDFREE")}, "dicom_filter"),
        ({"image_type": ("ORIGINAL", "PRIMARY", "", "FA")}, "dicom_filter"),
        ({"image_type": ("ORIGINAL", "PRIMARY", "", "ICG")}, "dicom_filter"),
        ({"filters": frozenset({"111609", "445465004"})}, "dicom_filter"),
        ({"has_contrast_agent": True}, "dicom_filter"),
        ({"devices": frozenset({"409903006"})}, "dicom_device"),
        ({"regions": frozenset({"41296002"})}, "dicom_region"),
        ({"photometric_interpretation": "MONOCHROME2"}, "dicom_monochrome"),
        ({"frames": 2}, "dicom_frames"),
    ],
)
def test_others_are_refused_with_a_code_and_a_remedy(changed: dict[str, object], code: str) -> None:
    with pytest.raises(NotAPhotographError) as caught:
        check_instance_kind(replace(PHOTOGRAPH, **changed), ())
    assert caught.value.code == code
    assert find_remedy(code, "night") != DEFAULT


@pytest.mark.parametrize(
    ("changed", "admission"),
    [
        ({"sop_class_uid": OPHTHALMIC_16_BIT}, DicomAdmission.SIXTEEN_BIT),
        ({"sop_class_uid": VL_PHOTOGRAPHIC}, DicomAdmission.VL_PHOTOGRAPHIC),
        ({"sop_class_uid": SECONDARY_CAPTURE}, DicomAdmission.SECONDARY_CAPTURE),
        ({"photometric_interpretation": "MONOCHROME1"}, DicomAdmission.MONOCHROME),
        ({"frames": 2}, DicomAdmission.MULTI_FRAME),
    ],
)
def test_a_setting_admits_some(changed: dict[str, object], admission: DicomAdmission) -> None:
    header = replace(PHOTOGRAPH, **changed)
    with pytest.raises(NotAPhotographError, match=f"FUNDUS_DICOM_ADMIT does not name {admission}"):
        check_instance_kind(header, set(DicomAdmission) - {admission})
    check_instance_kind(header, {admission})


def test_admitted_secondary_capture_is_not_our_own_overlay() -> None:
    overlay = replace(PHOTOGRAPH, sop_class_uid=SECONDARY_CAPTURE, camera_model=OUR_MODEL_NAME)
    with pytest.raises(NotAPhotographError, match="written by this program"):
        check_instance_kind(overlay, set(DicomAdmission))


def test_contradictory_eye_is_refused() -> None:
    check_instance_eye(PHOTOGRAPH)
    with pytest.raises(ImageDecodeError) as caught:
        check_instance_eye(replace(PHOTOGRAPH, eye_is_contradictory=True))
    assert caught.value.code == "dicom_laterality"
    assert find_remedy("dicom_laterality", "night") != DEFAULT
