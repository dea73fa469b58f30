"""An instance enters the ledger under its UID, with the keyed hash of its patient."""

import hmac
from datetime import date

import pytest
from pydantic import SecretStr

from worker.core.dicom.instance_header import InstanceHeader
from worker.core.dicom.instance_reference import make_instance_reference, require_patient_key
from worker.core.errors import SettingsError
from worker.core.manifests.admission import AdmissionPolicy, admit_references
from worker.core.manifests.image_reference import ImageReference
from worker.core.vocabulary import Eye

KEY = SecretStr("k" * 32)
PATIENT = {"00100020": {"vr": "LO", "Value": ["1001"]}, "00100021": {"vr": "LO", "Value": ["CLINIC A"]}}


def test_reference_of_an_instance() -> None:
    header = InstanceHeader("1.2.3", "2.25.17", study_date=date(2026, 11, 28), eye=Eye.LEFT, camera_model="NW400")
    reference = make_instance_reference("file:///a.dcm", header, PATIENT)
    assert reference == ImageReference(
        "file:///a.dcm", "2.25.17", "1001^^^CLINIC A", Eye.LEFT, source="NW400", study_date=date(2026, 11, 28)
    )
    assert (reference.identity, reference.content_version) == ("2.25.17", "2.25.17")
    (admitted,) = admit_references(iter([reference]), AdmissionPolicy(patient_key=KEY))
    assert admitted.patient_id == hmac.digest(b"k" * 32, b"1001^^^CLINIC A", "sha256").hex()


def test_dicom_needs_the_patient_key() -> None:
    require_patient_key(AdmissionPolicy(patient_key=KEY))
    with pytest.raises(SettingsError, match=r"FUNDUS_PATIENT_KEY: is not set, .* fix: "):
        require_patient_key(AdmissionPolicy())
