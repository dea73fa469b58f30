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
