"""Explanation of each error code and the next step for the user."""

from worker.report.snapshot import BY_READER

RUN = "RUN"
THEN_RESEND = f"then `fundus resend {RUN} --failed`"

REMEDIES = {
    "no_field": "No circular field of view was found: check that this is a fundus photograph.",
    "field_cut_off": "Too much of the field of view is outside the image: retake the photograph with the eye centred.",
    "not_a_fundus": "Colours and edges are not those of a fundus photograph: check that this is the right image.",
    "too_dark": "Underexposed: retake the photograph with a larger pupil or more flash.",
    "over_exposed": "Overexposed: retake the photograph with less flash.",
    "blurred": "Blurred: retake the photograph. If it stays blurred, check for media opacity.",
    "low_contrast": "Low contrast: clean the lens and retake the photograph. If it stays low, check for media opacity.",
    BY_READER: "A reader marked the image ungradable: retake the photograph or examine the patient.",
    "image_missing": f"File not found: restore it at its recorded location, {THEN_RESEND}.",
    "image_format": "Unsupported format: export the image as JPEG, PNG, TIFF, WebP or BMP.",
    "not_a_photograph": "The header says that this is no colour fundus photograph: remove it from the source.",
    "dicom_own_output": "Written by this program: enqueue the photographs alone.",
    "dicom_class": "Another kind of DICOM instance: enqueue photographs alone, or admit it with FUNDUS_DICOM_ADMIT.",
    "dicom_derived": "Derived from another image: enqueue the photograph that the camera took.",
    "dicom_filter": "Not in colour (red-free, angiography, filter): take a colour photograph.",
    "dicom_device": "Not taken by a fundus camera: check that this is the right image.",
    "dicom_region": "Not of the retina, by the header: check that this is the right image.",
    "dicom_monochrome": "In grey: take a colour photograph, or admit it with FUNDUS_DICOM_ADMIT.",
    "dicom_frames": "Several frames: export single photographs, or admit the first frame with FUNDUS_DICOM_ADMIT.",
    "dicom_laterality": "The header names both eyes: correct it in the PACS and enqueue the photograph again.",
    "dicom_syntax": "Unsupported transfer syntax: export the photograph with JPEG Baseline or uncompressed.",
    "dicom_not_installed": f"This worker cannot read DICOM: install the extra `dicom` on all workers, {THEN_RESEND}.",
    "image_damaged": "Damaged file: copy it from the camera again.",
    "image_too_large": "Exceeds FUNDUS_MAX_IMAGE_BYTES or FUNDUS_MAX_IMAGE_PIXELS: reduce it or raise the limit.",
    "image_decoder_crash": "The decoder crashed or timed out: export the image again as JPEG or PNG.",
    "image_refused": "The store refuses this object: grant the permission, restore it from the archive or correct its "
    f"encryption key, {THEN_RESEND}.",
    "image_checksum": f"The checksum differs from the manifest: copy the file again, {THEN_RESEND}.",
    "image_changed": "No longer the photograph that was graded: restore it, or grade the new one in another run.",
    "reference_invalid": "The location is invalid or outside FUNDUS_SOURCE_ROOTS: correct the manifest.",
    "model_invalid": "The network returned no valid output: check the model with `fundus doctor`.",
    "attempts_exhausted": "Every worker that processed this image crashed: inspect the file, "
    f"then `fundus resend {RUN} --quarantined`.",
    "unexpected": "Internal error: the worker log has the traceback. Please report it.",
}
DEFAULT = "See the worker log."


def find_remedy(code: str, run: str) -> str:
    """Return one sentence for an error code, with commands for this run between backticks."""
    return REMEDIES.get(code, DEFAULT).replace(f" {RUN} ", f" {run} ")
