"""What every published object has in its header: patient, study, series, times and the software that made it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from io import BytesIO
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, ExplicitVRLittleEndian

from worker import __version__
from worker.core.dicom.derived_uid import derive_uid
from worker.core.dicom.selection import OUR_MODEL_NAME
from worker.core.vocabulary import PublicationKind

if TYPE_CHECKING:
    from worker.ledger.published_outcomes import PublishedOutcome
    from worker.publishing.dicom.photograph import Photograph

MANUFACTURER = "fundus-grading project"
NOT_FOR_CLINICAL_USE = "NOT FOR CLINICAL USE"
IMPLEMENTATION_UID = derive_uid("implementation")
SERIES_NUMBERS = {PublicationKind.SR: 9001, PublicationKind.OVERLAY: 9002}
READING_SERIES_NUMBER = 9003
MAX_DESCRIPTION_CHARS = 64


@dataclass(frozen=True, slots=True)
class Labelling:
    """How results are marked.

    organisation: the one that answers for their clinical use; None marks them as not for it. time_zone: of times in
    the header, unless the photograph names its own.
    """

    organisation: str | None
    time_zone: str

    @property
    def warning(self) -> str | None:
        """The words that mark a result; None if it is for clinical use."""
        return NOT_FOR_CLINICAL_USE if self.organisation is None else None

    def describe(self, text: str) -> str:
        """Return the text followed by the warning, if there is one."""
        return text if self.warning is None else f"{text} - {self.warning}"


def derive_series_uid(outcome: PublishedOutcome, kind: PublicationKind, study_uid: str, *, is_reading: bool) -> str:
    """Return the series of an object: one for each kind, run, study and model, and one for readings."""
    return derive_uid("series", kind, outcome.run, study_uid, outcome.model_id, is_reading)


def add_header(
    dataset: Dataset, outcome: PublishedOutcome, photograph: Photograph, labelling: Labelling, description: str
) -> None:
    """Set the attributes of the modules Patient, General Study, General Series, General Equipment and SOP Common."""
    for element in photograph.identity:
        dataset.add(element)
    is_reading = outcome.follows_reading
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.StudyInstanceUID = photograph.path.study
    study, kind = photograph.path.study, outcome.publication.kind
    dataset.SeriesInstanceUID = derive_series_uid(outcome, kind, study, is_reading=is_reading)
    dataset.SeriesNumber = READING_SERIES_NUMBER if is_reading else SERIES_NUMBERS[outcome.publication.kind]
    dataset.SeriesDescription = labelling.describe(description)[:MAX_DESCRIPTION_CHARS]
    dataset.SOPInstanceUID = outcome.publication.uid
    dataset.InstanceNumber = outcome.position + 1
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = OUR_MODEL_NAME
    dataset.DeviceSerialNumber = outcome.model_id
    dataset.SoftwareVersions = [outcome.program_version or __version__, outcome.model_name]
    made_at = to_local_time(outcome.made_at, photograph, labelling)
    date, time = made_at.strftime("%Y%m%d"), made_at.strftime("%H%M%S")
    dataset.TimezoneOffsetFromUTC = made_at.strftime("%z")
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = date, time
    dataset.ContentDate, dataset.ContentTime = date, time


def to_local_time(at: datetime, photograph: Photograph, labelling: Labelling) -> datetime:
    """Convert a time to the zone of the photograph's header, to which the study's time belongs."""
    offset = str(photograph.identity.get("TimezoneOffsetFromUTC") or "")
    try:
        minutes = int(offset[1:3]) * 60 + int(offset[3:5])
        zone = timezone((-1 if offset[0] == "-" else 1) * timedelta(minutes=minutes))
    except (IndexError, ValueError):
        return at.astimezone(ZoneInfo(labelling.time_zone))
    return at.astimezone(zone)


def write_file(dataset: Dataset, syntax: UID = ExplicitVRLittleEndian) -> bytes:
    """Return the DICOM file. The same data set gives the same bytes; the preamble is zero."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    dataset.file_meta.ImplementationVersionName = "FUNDUS_GRADING"
    dataset.preamble = bytes(128)
    with BytesIO() as file:
        dcmwrite(file, dataset, enforce_file_format=True)
        return file.getvalue()
