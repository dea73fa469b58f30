"""Build DICOM files of photographs, as a fundus camera sends them."""

import struct
from dataclasses import dataclass
from io import BytesIO

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEGBaseline8Bit,
    OphthalmicPhotography8BitImageStorage,
    generate_uid,
)


@dataclass(frozen=True)
class Exposure:
    """One exposure of a study. Every UID is derived from the names, so that equal ones give the same objects."""

    study: str = "study"
    series: str = "series"
    name: str = "photograph"
    study_date: str = "20261128"
    patient: str = "TEST001"
    issuer: str = "clinic-a"
    laterality: str = "R"
    uid: str | None = None
    """SOP Instance UID, if it is not to be derived."""

    @property
    def study_uid(self) -> str:
        return str(generate_uid(entropy_srcs=["study", self.study]))

    @property
    def series_uid(self) -> str:
        return str(generate_uid(entropy_srcs=["series", self.study, self.series]))

    @property
    def instance_uid(self) -> str:
        return self.uid or str(generate_uid(entropy_srcs=["instance", self.study, self.series, self.name]))


def make_photograph(jpeg: bytes, exposure: Exposure | None = None, **attributes: object) -> bytes:
    """Return an Ophthalmic Photography 8 Bit file with the JPEG as its frame. attributes: replaced ones, by keyword."""
    exposure = exposure or Exposure()
    rows, columns = read_jpeg_size(jpeg)
    dataset = Dataset()
    values = {
        "SpecificCharacterSet": "ISO_IR 192",
        "ImageType": ["ORIGINAL", "PRIMARY", "", "COLOR"],
        "SOPClassUID": OphthalmicPhotography8BitImageStorage,
        "SOPInstanceUID": exposure.instance_uid,
        "StudyInstanceUID": exposure.study_uid,
        "SeriesInstanceUID": exposure.series_uid,
        "StudyDate": exposure.study_date,
        "StudyTime": "093000",
        "ContentDate": exposure.study_date,
        "Modality": "OP",
        "Manufacturer": "Synthetic",
        "ManufacturerModelName": "Test Camera",
        "PatientName": "Test^Fundus",
        "PatientID": exposure.patient,
        "IssuerOfPatientID": exposure.issuer,
        "PatientBirthDate": "19600101",
        "PatientSex": "O",
        "StudyID": "1",
        "SeriesNumber": 1,
        "InstanceNumber": 1,
        "ImageLaterality": exposure.laterality,
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": "YBR_FULL_422",
        "PlanarConfiguration": 0,
        "NumberOfFrames": 1,
        "Rows": rows,
        "Columns": columns,
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "BurnedInAnnotation": "NO",
        **attributes,
    }
    for keyword, value in values.items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset.PixelData = encapsulate([jpeg])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def read_jpeg_size(jpeg: bytes) -> tuple[int, int]:
    """Return height and width of a baseline JPEG."""
    position = 2
    while jpeg[position + 1] != 0xC0:
        position += 2 + struct.unpack(">H", jpeg[position + 2 : position + 4])[0]
    height, width = struct.unpack(">HH", jpeg[position + 5 : position + 9])
    return height, width
