"""What an outcome without a grade means, and what can be done."""

from worker.report.snapshot import BY_READER

RUN = "RUN"
AGAIN = f"then `fundus resend {RUN} --failed`"

REMEDIES = {
    "no_field": "No round field of view was found: is this a fundus photograph?",
    "field_cut_off": "Too much of the field is outside the picture: photograph the eye again, well centred.",
    "not_a_fundus": "Not the colours or edges of a fundus photograph: is it another kind of picture?",
    "too_dark": "Too dark: photograph the eye again, with a wider pupil or more light.",
    "over_exposed": "Over-exposed: photograph the eye again, with less light.",
    "blurred": "Blurred: photograph the eye again; if it stays so, look for a cloudy lens.",
    "low_contrast": "Hardly any contrast: clean the lens and photograph the eye again; look for a cloudy lens.",
    BY_READER: "A reader could not grade it: photograph the eye again, or see the patient.",
    "image_missing": f"Nothing lies where the reference points: put the file there, {AGAIN}.",
    "image_format": "Not a JPEG, PNG, TIFF, WebP or BMP: export the photograph again.",
    "image_damaged": "The file is damaged: copy it again from the camera.",
    "image_too_large": "Larger than FUNDUS_MAX_IMAGE_BYTES or FUNDUS_MAX_IMAGE_PIXELS: send it smaller, or raise them.",
    "image_decoder_crash": "It crashed or stalled the decoder: export the photograph again, as JPEG or PNG.",
    "image_checksum": f"Not the bytes that the manifest promised: copy the file again, {AGAIN}.",
    "reference_invalid": "The reference leads nowhere or out of FUNDUS_SOURCE_ROOTS: mend the manifest.",
    "model_invalid": "The network gave no usable value: `fundus doctor` checks the model.",
    "attempts_exhausted": "A worker died each time it held this image: have the file looked at, "
    f"then `fundus resend {RUN} --quarantined`.",
    "unexpected": "A fault of the program: the worker's log has the traceback; please report it.",
}
DEFAULT = "See the worker's log."


def find_remedy(code: str, run: str) -> str:
    """One sentence for people, with commands of that run between backticks."""
    return REMEDIES.get(code, DEFAULT).replace(f" {RUN} ", f" {run} ")
