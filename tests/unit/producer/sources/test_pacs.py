"""Sources in a real PACS."""

from collections.abc import Callable
from pathlib import Path

import pytest

from producer.sources.open_source import open_source
from tests.services.dicom_objects import Exposure, make_photograph
from tests.services.orthanc import Orthanc
from worker.core.errors import SettingsError, SourceError, StorageError
from worker.core.manifests.admission import hash_patient_id, make_admission_policy
from worker.core.manifests.image_reference import ImageReference
from worker.core.settings import Settings
from worker.core.storage.storage import Storage
from worker.core.vocabulary import Eye

KEY = "0123456789abcdef0123456789abcdef"
PHOTOGRAPH = (Path(__file__).parents[4] / "producer" / "demo" / "samples" / "black-frame.jpg").read_bytes()
NOVEMBER = "dicomweb://pacs?StudyDate=20261101-20261130"
OCT = "1.2.840.10008.5.1.4.1.1.77.1.5.4"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

MakeSettings = Callable[..., Settings]


def list_images(settings: Settings, location: str) -> tuple[list[ImageReference], list[str]]:
    """Return the references of a source, and the warnings."""
    warnings: list[str] = []
    policy = make_admission_policy(settings)
    source = open_source(location, storage=Storage(settings), admission=policy, on_warning=warnings.append)
    assert source.location == location
    return list(source.references), warnings


def test_manifest_names_instances_of_the_pacs(pacs: Orthanc, make_settings: MakeSettings, tmp_path: Path) -> None:
    left, gone = Exposure(name="left", laterality="L"), Exposure(name="gone")
    pacs.add(make_photograph(PHOTOGRAPH, left))
    uris = [f"dicomweb://pacs/{one.study_uid}/{one.series_uid}/{one.instance_uid}" for one in (left, gone)]
    manifest = tmp_path / "m.csv"
    manifest.write_text(f"uri,reference_grade\n{uris[0]},3\n{uris[1]},\n")
    with pytest.raises(SourceError, match="dicomweb://pacs is not among the allowed places"):
        list_images(make_settings(patient_key=KEY), str(manifest))
    settings = make_settings(patient_key=KEY, source_roots="dicomweb://pacs")
    (found, missing), _ = list_images(settings, str(manifest))

    assert settings.patient_key is not None
    assert (found.uri, found.image_id, found.eye) == (uris[0], left.instance_uid, Eye.LEFT)
    assert (found.reference_grade, found.source) == (3, "Test Camera")
    assert found.patient_id == hash_patient_id("TEST001^^^clinic-a", settings.patient_key)
    # The worker says what is wrong with it, as with other rows.
    assert missing.uri == uris[1]


def test_photographs_of_the_dates_are_found_once_with_their_facts(pacs: Orthanc, make_settings: MakeSettings) -> None:
    right = Exposure(study="one", name="right")
    left = Exposure(study="one", name="left", laterality="L")
    first_day = Exposure(study="two", study_date="20261101", patient="TEST002", laterality="B")
    december = Exposure(study="three", study_date="20261201")
    pacs.add(*(make_photograph(PHOTOGRAPH, exposure) for exposure in (right, left, first_day, december)))
    settings = make_settings(patient_key=KEY)

    references, warnings = list_images(settings, NOVEMBER)

    assert settings.patient_key is not None
    patient = hash_patient_id("TEST001^^^clinic-a", settings.patient_key)
    assert {(reference.image_id, reference.eye, reference.patient_id) for reference in references} == {
        (right.instance_uid, Eye.RIGHT, patient),
        (left.instance_uid, Eye.LEFT, patient),
        (first_day.instance_uid, Eye.UNKNOWN, hash_patient_id("TEST002^^^clinic-a", settings.patient_key)),
    }
    assert {reference.uri for reference in references} == {
        f"dicomweb://pacs/{exposure.study_uid}/{exposure.series_uid}/{exposure.instance_uid}"
        for exposure in (right, left, first_day)
    }
    assert {(reference.source, str(reference.study_date)) for reference in references} == {
        ("Test Camera", "2026-11-28"),
        ("Test Camera", "2026-11-01"),
    }
    assert {reference.content_version for reference in references} == {e.instance_uid for e in (right, left, first_day)}
    assert warnings == []


def test_other_instances_are_left_out_and_counted(pacs: Orthanc, make_settings: MakeSettings) -> None:
    others: list[dict[str, object]] = [
        {"SOPClassUID": OCT},
        {"SOPClassUID": SECONDARY_CAPTURE, "ManufacturerModelName": "fundus-grading"},
        {"ImageType": ["DERIVED", "PRIMARY", "", "COLOR"]},
        {"ImageType": ["ORIGINAL", "PRIMARY", "", "REDFREE"]},
    ]
    for number, attributes in enumerate(others):
        pacs.add(make_photograph(PHOTOGRAPH, Exposure(name=f"other-{number}"), **attributes))
    pacs.add(make_photograph(PHOTOGRAPH))
    settings = make_settings(patient_key=KEY)

    references, warnings = list_images(settings, NOVEMBER)

    assert [reference.image_id for reference in references] == [Exposure().instance_uid]
    assert warnings == [
        "no photographs to grade, ignored in the PACS: 1 dicom_class, 1 dicom_derived, 1 dicom_filter,"
        " 1 dicom_own_output"
    ]


def test_query_selects_by_its_other_keys(pacs: Orthanc, make_settings: MakeSettings) -> None:
    here = Exposure(name="here")
    pacs.add(make_photograph(PHOTOGRAPH, here, StationName="CAMERA-1"))
    pacs.add(make_photograph(PHOTOGRAPH, Exposure(name="there"), StationName="CAMERA-2"))
    pacs.add(make_photograph(PHOTOGRAPH, Exposure(name="nowhere")))
    settings = make_settings(patient_key=KEY)

    for query in ("StationName=camera-1", "StationName=*-1,CAMERA-9", f"SOPInstanceUID={here.instance_uid}"):
        references, _ = list_images(settings, f"{NOVEMBER}&{query}")

        assert [reference.image_id for reference in references] == [here.instance_uid]


def test_pacs_is_refused_without_a_patient_key(pacs: Orthanc, make_settings: MakeSettings) -> None:
    with pytest.raises(SettingsError, match="FUNDUS_PATIENT_KEY: is not set"):
        list_images(make_settings(), NOVEMBER)


def test_pacs_is_refused_outside_the_source_roots(pacs: Orthanc, make_settings: MakeSettings) -> None:
    pacs.add(make_photograph(PHOTOGRAPH))

    with pytest.raises(SourceError, match="dicomweb://pacs is not among the allowed places") as caught:
        list_images(make_settings(patient_key=KEY, source_roots="/images"), NOVEMBER)

    assert caught.value.code == "reference_not_allowed"
    references, _ = list_images(make_settings(patient_key=KEY, source_roots="/images,dicomweb://pacs"), NOVEMBER)
    assert len(references) == 1


def test_unreachable_pacs_is_an_outage(make_settings: MakeSettings) -> None:
    settings = make_settings(patient_key=KEY, dicomweb_url="http://127.0.0.1:1/dicom-web", service_retry_timeout_s=0.1)

    with pytest.raises(StorageError, match=r"127\.0\.0\.1:1: "):
        list_images(settings, NOVEMBER)
