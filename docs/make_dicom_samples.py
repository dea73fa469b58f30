"""Make the demo's DICOM samples of two of its photographs, as a fundus camera would send them.

python -m docs.make_dicom_samples

The frame of each is the file of the photograph, byte for byte. Which eye it is, its optic disc shows; patients are made
up.
"""

from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.tag import Tag
from pydicom.uid import JPEGBaseline8Bit, OphthalmicPhotography8BitImageStorage, generate_uid

from tests.services.dicom_objects import read_jpeg_size

DEMO = Path(__file__).parents[1] / "producer" / "demo"
SAMPLES = {"IDRiD_008": "L", "IDRiD_047": "R"}
"""Photograph and Image Laterality."""
STUDY_DATE, STUDY_TIME = "20261128", "093000"
EMPTY = (
    "ReferringPhysicianName", "AccessionNumber", "PatientOrientation", "PatientEyeMovementCommanded", "PupilDilated",
    "EmmetropicMagnification", "IntraOcularPressure", "HorizontalFieldOfView", "IlluminationTypeCodeSequence",
    "LightPathFilterTypeStackCodeSequence", "ImagePathFilterTypeStackCodeSequence", "LensesCodeSequence",
    "RefractiveStateSequence", "AcquisitionContextSequence",
)  # fmt: skip
"""Attributes that the class requires and this camera does not know."""


def main() -> None:
    """Write the samples next to the demo."""
    for name in SAMPLES:
        file = make_sample(name)
        file.save_as(DEMO / "dicom" / f"{name}-dicom.dcm", enforce_file_format=True)


def make_sample(name: str) -> Dataset:
    """Return the instance of a photograph. Its UIDs are derived from the name."""
    jpeg = (DEMO / "samples" / f"{name}.jpg").read_bytes()
    rows, columns = read_jpeg_size(jpeg)
    study, series, instance, frame = (
        generate_uid(prefix=None, entropy_srcs=["fundus-grading sample", name, level])
        for level in ("study", "series", "instance", "frame of reference")
    )
    values = {
        "SpecificCharacterSet": "ISO_IR 192",
        "ImageType": ["ORIGINAL", "PRIMARY", "", "COLOR"],
        "SOPClassUID": OphthalmicPhotography8BitImageStorage,
        "SOPInstanceUID": instance,
        "StudyInstanceUID": study,
        "SeriesInstanceUID": series,
        "SynchronizationFrameOfReferenceUID": frame,
        "StudyDate": STUDY_DATE,
        "StudyTime": STUDY_TIME,
        "SeriesDate": STUDY_DATE,
        "SeriesTime": STUDY_TIME,
        "ContentDate": STUDY_DATE,
        "ContentTime": STUDY_TIME,
        "AcquisitionDateTime": STUDY_DATE + STUDY_TIME,
        "Modality": "OP",
        "Manufacturer": "fundus-grading project",
        "ManufacturerModelName": "Sample camera",
        "DeviceSerialNumber": "1",
        "SoftwareVersions": "1",
        "AnatomicRegionSequence": [_code("5665001", "Retina")],
        "PatientName": f"Sample^{name}",
        "PatientID": name,
        "IssuerOfPatientID": "IDRiD",
        "PatientBirthDate": "",
        "PatientSex": "",
        "StudyID": "1",
        "SeriesNumber": 1,
        "InstanceNumber": 1,
        "ImageLaterality": SAMPLES[name],
        "AcquisitionDeviceTypeCodeSequence": [_code("409898007", "Fundus Camera")],
        "FrameTime": "0",
        "FrameIncrementPointer": Tag("FrameTime"),
        "SynchronizationTrigger": "NO TRIGGER",
        "AcquisitionTimeSynchronized": "N",
        "DetectorType": "CMOS",
        "NumberOfFrames": 1,
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": "YBR_FULL_422",
        "PlanarConfiguration": 0,
        "Rows": rows,
        "Columns": columns,
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "BurnedInAnnotation": "NO",
        "LossyImageCompression": "01",
        "LossyImageCompressionMethod": "ISO_10918_1",
        "LossyImageCompressionRatio": f"{rows * columns * 3 / len(jpeg):.2f}",
    }
    dataset = Dataset()
    for keyword, value in (dict.fromkeys(EMPTY) | values).items():
        setattr(dataset, keyword, [] if value is None and keyword.endswith("Sequence") else value)
    dataset.PixelData = encapsulate([jpeg])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    return dataset


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "SCT", meaning
    return code


if __name__ == "__main__":
    main()
