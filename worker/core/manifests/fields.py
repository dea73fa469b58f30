"""Read single cells of manifests and label files; each raises ValueError with a sentence."""

import re

from worker.core.messages import IMAGE_ID_PATTERN
from worker.core.vocabulary import Eye, Grade

MAX_PATIENT_ID_CHARS = 128
_UNPRINTABLE = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff]")
_FORMULA = ("=", "+", "-", "@")

_GRADES = {str(int(grade)): grade for grade in Grade}
_EYES = {
    "": Eye.UNKNOWN,
    "unknown": Eye.UNKNOWN,
    "right": Eye.RIGHT,
    "r": Eye.RIGHT,
    "od": Eye.RIGHT,
    "left": Eye.LEFT,
    "l": Eye.LEFT,
    "os": Eye.LEFT,
}


def parse_image_id(text: str) -> str | None:
    """Empty is none given."""
    if text and not re.fullmatch(IMAGE_ID_PATTERN, text):
        raise ValueError(f"{text[:150]!r} must be 1 to 128 letters, digits, '.', '_' or '-', a letter or digit first")
    return text or None


def parse_patient_id(text: str) -> str | None:
    """Empty is none given. The one free text of a manifest that an export repeats."""
    if len(text) > MAX_PATIENT_ID_CHARS:
        raise ValueError(f"{len(text)} characters, the limit is {MAX_PATIENT_ID_CHARS}")
    if text.startswith(_FORMULA):
        raise ValueError(f"begins with {text[0]!r}: a spreadsheet that opens the export would take it for a formula")
    return text or None


def parse_eye(text: str) -> Eye:
    """`right`, `R`, `OD`, `left`, `L`, `OS`, in any case; `unknown` or empty."""
    eye = _EYES.get(text.lower())
    if eye is None:
        raise ValueError(f"{text[:80]!r} is no eye: right, left, OD, OS, R, L, unknown or empty")
    return eye


def parse_grade(text: str) -> Grade | None:
    """One digit from 0 to 4; empty is none given."""
    if not text:
        return None
    grade = _GRADES.get(text)
    if grade is None:
        raise ValueError(f"{text[:80]!r} is no grade from 0 to 4")
    return grade


def parse_sha256(text: str) -> str | None:
    """64 hexadecimal digits in either case; empty is none given."""
    if text and not re.fullmatch(r"[0-9A-Fa-f]{64}", text):
        raise ValueError(f"{text[:80]!r} must be 64 hexadecimal digits")
    return text.lower() or None


def require_printable(text: str) -> str:
    """Refuse control characters and halves of surrogate pairs: no database and no path takes them."""
    if _UNPRINTABLE.search(text):
        raise ValueError(f"{text[:80]!r} holds a character that cannot be printed")
    return text
