"""Parse single cells of manifests and label files. Every function raises ValueError for an invalid text."""

import re

from worker.core.messages import IMAGE_ID_PATTERN
from worker.core.vocabulary import Eye, Grade

MAX_PATIENT_ID_CHARS = 128
SOURCE_PATTERN = "[A-Za-z0-9][A-Za-z0-9._ -]{0,63}"
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
    """Return the id, or None for an empty cell."""
    if text and not re.fullmatch(IMAGE_ID_PATTERN, text):
        raise ValueError(
            f"{text[:150]!r} must be 1 to 128 letters, digits, '.', '_' or '-'; the first a letter or digit"
        )
    return text or None


def parse_patient_id(text: str) -> str | None:
    """Return the id, or None for an empty cell. Exports repeat this text, so it must not look like a formula."""
    if len(text) > MAX_PATIENT_ID_CHARS:
        raise ValueError(f"{len(text)} characters, the limit is {MAX_PATIENT_ID_CHARS}")
    if text.startswith(_FORMULA):
        raise ValueError(f"begins with {text[0]!r}, so a spreadsheet would read it as a formula")
    return text or None


def parse_source(text: str) -> str | None:
    """Return the name of a site or camera, or None for an empty cell."""
    if text and not re.fullmatch(SOURCE_PATTERN, text):
        raise ValueError(
            f"{text[:80]!r} must be 1 to 64 letters, digits, spaces, '.', '_' or '-'; the first a letter or digit"
        )
    return text or None


def parse_eye(text: str) -> Eye:
    """Parse `right`, `R`, `OD`, `left`, `L`, `OS` or `unknown`, in any case; an empty cell is unknown."""
    eye = _EYES.get(text.lower())
    if eye is None:
        raise ValueError(f"eye {text[:80]!r} is invalid; use right, left, OD, OS, R, L, unknown or leave it empty")
    return eye


def parse_grade(text: str) -> Grade | None:
    """Parse one digit from 0 to 4; an empty cell is None."""
    if not text:
        return None
    grade = _GRADES.get(text)
    if grade is None:
        raise ValueError(f"{text[:80]!r} is not a grade from 0 to 4")
    return grade


def parse_sha256(text: str) -> str | None:
    """Return 64 hexadecimal digits in lower case, or None for an empty cell."""
    if text and not re.fullmatch(r"[0-9A-Fa-f]{64}", text):
        raise ValueError(f"{text[:80]!r} must be 64 hexadecimal digits")
    return text.lower() or None


def check_printable(text: str) -> str:
    """Return the text unless it has control characters or surrogates, which databases and paths reject."""
    if _UNPRINTABLE.search(text):
        raise ValueError(f"{text[:80]!r} contains an unprintable character")
    return text
