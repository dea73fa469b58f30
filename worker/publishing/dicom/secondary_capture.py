"""Build the overlay of one image as Secondary Capture: the picture that the saliency was drawn into, as JPEG."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, SecondaryCaptureImageStorage

from worker import __version__
from worker.core.dicom.selection import OUR_MODEL_NAME
from worker.core.vocabulary import Eye
from worker.publishing.dicom.object_header import MANUFACTURER, Labelling, add_header, to_local_time, write_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.imaging.steps.marked_picture import MarkedPicture
    from worker.ledger.published_outcomes import PublishedOutcome
    from worker.publishing.dicom.photograph import Photograph

SERIES = "AI saliency overlay"
_SIDES = {Eye.RIGHT: "R", Eye.LEFT: "L"}
_BYTES_PER_PIXEL = 3


def build_overlay(
    outcome: PublishedOutcome, photograph: Photograph, labelling: Labelling, picture: MarkedPicture
) -> bytes:
    """Return the DICOM file of the overlay; the same arguments give the same bytes.

    It is no Ophthalmic Photography instance: a program that grades photographs would take it for one.
    """
    overlay = Dataset()
    overlay.SOPClassUID = SecondaryCaptureImageStorage
    add_header(overlay, outcome, photograph, labelling, SERIES)
    overlay.Modality, overlay.ConversionType = "OT", "WSD"
    overlay.ImageType = ["DERIVED", "SECONDARY"]
    overlay.PatientOrientation = None
    if photograph.eye in _SIDES:
        overlay.ImageLaterality = _SIDES[photograph.eye]
    overlay.AnatomicRegionSequence = _code("5665001", "SCT", "Retina")
    _add_origin(overlay, outcome, photograph, labelling)
    _add_picture(overlay, picture)
    if labelling.warning is not None:
        overlay.ImageComments = f"{labelling.warning}. Saliency of an AI, not a finding."
    overlay.BurnedInAnnotation = "NO" if labelling.warning is None else "YES"
    overlay.RecognizableVisualFeatures = "NO"
    return write_file(overlay, JPEGBaseline8Bit)


def _add_origin(overlay: Dataset, outcome: PublishedOutcome, photograph: Photograph, labelling: Labelling) -> None:
    """Name the photograph that the overlay was drawn from, and the software."""
    series = Dataset()
    series.SeriesInstanceUID = photograph.path.series
    series.ReferencedInstanceSequence = [_refer_to(photograph)]
    overlay.ReferencedSeriesSequence = [series]
    source = _refer_to(photograph)
    source.SpatialLocationsPreserved = "NO"
    source.PurposeOfReferenceCodeSequence = _code("121322", "DCM", "Source image for image processing operation")
    overlay.SourceImageSequence = [source]
    overlay.DerivationDescription = (
        f"Grad-CAM (gradient-weighted class activation) of {outcome.model_name}, model {outcome.model_id}, drawn over"
        " the photograph"
    )
    overlay.DerivationCodeSequence = [
        *_code("113085", "DCM", "Spatial resampling"),
        *_code("130403", "DCM", "Gradient-weighted class activation"),
    ]
    equipment = Dataset()
    equipment.Manufacturer, equipment.ManufacturerModelName = MANUFACTURER, OUR_MODEL_NAME
    equipment.SoftwareVersions = outcome.program_version or __version__
    made_at = to_local_time(outcome.made_at, photograph, labelling)
    equipment.ContributionDateTime = made_at.strftime("%Y%m%d%H%M%S%z")
    equipment.ContributionDescription = "Saliency overlay of an AI grading"
    equipment.PurposeOfReferenceCodeSequence = _code("109103", "DCM", "Modifying Equipment")
    overlay.ContributingEquipmentSequence = [equipment]


def _refer_to(photograph: Photograph) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = photograph.sop_class_uid
    reference.ReferencedSOPInstanceUID = photograph.path.instance
    return reference


def _add_picture(overlay: Dataset, picture: MarkedPicture) -> None:
    overlay.SamplesPerPixel, overlay.PhotometricInterpretation = 3, "YBR_FULL_422"
    overlay.PlanarConfiguration = 0
    overlay.Rows, overlay.Columns = picture.height, picture.width
    overlay.BitsAllocated, overlay.BitsStored, overlay.HighBit, overlay.PixelRepresentation = 8, 8, 7, 0
    ratio = picture.width * picture.height * _BYTES_PER_PIXEL / len(picture.jpeg)
    overlay.LossyImageCompression = "01"
    overlay.LossyImageCompressionRatio = f"{ratio:.2f}"
    overlay.LossyImageCompressionMethod = "ISO_10918_1"
    overlay.PixelData = encapsulate([picture.jpeg])
    overlay["PixelData"].VR = "OB"
    overlay["PixelData"].is_undefined_length = True


def _code(value: str, scheme: str, meaning: str) -> Sequence[Dataset]:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return [item]
