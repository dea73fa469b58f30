"""Find a photograph in the PACS and read what its results must repeat of its header."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from worker.core.dicom.derived_uid import find_instance_uid
from worker.core.dicom.instance_header import read_instance_header
from worker.core.dicom.selection import check_instance_eye
from worker.core.dicomweb.client import SERIES_UID, STUDY_UID, read_text
from worker.core.errors import ImageError, ImageMissingError, PublicationError
from worker.core.uris import InstancePath, parse_dicomweb_uri, uri_scheme
from worker.core.vocabulary import Eye

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydicom.dataelem import DataElement

    from worker.core.dicomweb.client import DicomwebClient
    from worker.ledger.published_outcomes import PublishedOutcome

IDENTITY = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyDescription",
    "TimezoneOffsetFromUTC",
)
"""Attributes by which a PACS files an object under its patient and study."""
_NAMES = {f"{tag_for_keyword(name):08X}": name for name in IDENTITY}
_REQUIRED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)


@dataclass(frozen=True, slots=True)
class Photograph:
    """A photograph of the PACS, as it is filed now.

    identity: the attributes of IDENTITY that it has, and empty ones that every object must have. has_moved: whether it
    is in another study than when it was enqueued.
    """

    path: InstancePath
    sop_class_uid: str
    eye: Eye
    identity: Dataset
    has_moved: bool = False


def find_photograph(client: DicomwebClient, outcome: PublishedOutcome) -> Photograph:
    """Read the header of the photograph, wherever in the PACS it is filed now.

    Raises PublicationError `photograph_gone` if the PACS no longer has it, `dicom_laterality` if its header names both
    eyes or another one than it was graded for, `photograph_header` for a malformed header; StorageError.
    """
    uid = find_instance_uid(outcome.publication.image_id, outcome.uri)
    if uid is None:
        raise PublicationError("the image is no DICOM instance", code="photograph_gone")
    known = parse_dicomweb_uri(outcome.uri) if uri_scheme(outcome.uri) == "dicomweb" else None
    if known is not None:
        try:
            return read_photograph(client.metadata(known), outcome.eye, known)
        except ImageMissingError:
            pass
    path = _search(client, uid)
    return read_photograph(client.metadata(path), outcome.eye, path, has_moved=known is not None)


def read_photograph(
    metadata: Mapping[str, Any], graded_eye: Eye, path: InstancePath, *, has_moved: bool = False
) -> Photograph:
    """Read a photograph from its header in DICOM JSON. Raises PublicationError as `find_photograph` does."""
    try:
        header = read_instance_header(metadata)
        check_instance_eye(header)
    except ImageError as error:
        code = error.code if error.code == "dicom_laterality" else "photograph_header"
        raise PublicationError(error.detail, code=code) from None
    if header.sop_instance_uid != path.instance:
        raise PublicationError("the PACS returns another instance", code="photograph_header")
    if Eye.UNKNOWN not in (header.eye, graded_eye) and header.eye is not graded_eye:
        raise PublicationError(
            f"the header names the {header.eye} eye now, the {graded_eye} one was graded; fix: grade it again",
            code="dicom_laterality",
        )
    return Photograph(path, header.sop_class_uid, header.eye, _read_identity(metadata), has_moved=has_moved)


def _search(client: DicomwebClient, uid: str) -> InstancePath:
    """Find the only study and series of an instance. Raises PublicationError."""
    found = {
        (read_text(one, STUDY_UID), read_text(one, SERIES_UID))
        for one in client.search("instances", [("SOPInstanceUID", uid)], fields=[STUDY_UID, SERIES_UID])
    }
    if len(found) != 1:
        raise PublicationError(f"the PACS has {len(found)} instances {uid}, not one", code="photograph_gone")
    study, series = found.pop()
    if study is None or series is None:
        raise PublicationError(f"the PACS does not name the study of {uid}", code="photograph_header")
    return InstancePath(study, series, uid)


def _read_identity(metadata: Mapping[str, Any]) -> Dataset:
    identity = Dataset()
    for name in _REQUIRED:
        setattr(identity, name, None)
    for tag, attribute in metadata.items():
        element = _parse(tag, attribute)
        if element is not None:
            identity.add(element)
    return identity


def _parse(tag: str, attribute: Any) -> DataElement | None:
    """Return an attribute of IDENTITY; None for any other. Raises PublicationError, which names no value."""
    name = _NAMES.get(tag.upper())
    if name is None:
        return None
    try:
        return Dataset.from_json({tag: attribute})[tag]
    except Exception:  # noqa: BLE001 - the library raises many kinds for malformed JSON
        # Nothing of the cause: it may repeat the value.
        raise PublicationError(f"the header's {name} is malformed", code="photograph_header") from None
