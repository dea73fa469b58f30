"""Make the reference of a DICOM instance: what enters the ledger of it."""

from worker.core.dicom.instance_header import InstanceHeader, Metadata, read_patient_id
from worker.core.errors import SettingsError
from worker.core.manifests.admission import AdmissionPolicy
from worker.core.manifests.image_reference import ImageReference


def make_instance_reference(uri: str, header: InstanceHeader, metadata: Metadata) -> ImageReference:
    """Return the reference of an instance: SOP Instance UID as image id and version, eye, camera, date and patient.

    metadata: holds the patient's id, see `read_patient_id`; the reference has it in the clear until
    `admit_references` has replaced it. What a UID names never changes, so the UID also is the version.
    """
    return ImageReference(
        uri=uri,
        image_id=header.sop_instance_uid,
        patient_id=read_patient_id(metadata),
        eye=header.eye,
        source=header.camera_model,
        study_date=header.study_date,
        etag=header.sop_instance_uid,
    )


def require_patient_key(policy: AdmissionPolicy) -> None:
    """Raise SettingsError without FUNDUS_PATIENT_KEY. Every source of DICOM instances calls it before it reads one."""
    if policy.patient_key is None:
        raise SettingsError(
            "FUNDUS_PATIENT_KEY: is not set, and DICOM instances have the patient's id in their headers; "
            "fix: set it to the output of `openssl rand -hex 32`, and keep it"
        )
