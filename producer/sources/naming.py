"""Read eye and patient of an image from its path below the source."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from worker.core.errors import SourceError
from worker.core.image_name import name_below
from worker.core.manifests.fields import check_printable, parse_patient_id
from worker.core.manifests.image_reference import ImageReference, OnWarning
from worker.core.settings import Settings
from worker.core.vocabulary import Eye

_EYES = {
    "right": Eye.RIGHT,
    "od": Eye.RIGHT,
    "r": Eye.RIGHT,
    "left": Eye.LEFT,
    "os": Eye.LEFT,
    "l": Eye.LEFT,
}


@dataclass(frozen=True, slots=True)
class NamingRules:
    """What the paths of a source say.

    eye: whether they name the eye. patient: finds the patient id, in its group `patient`, its first group, or as a
    whole; None if the paths do not name patients.
    """

    eye: bool = False
    patient: re.Pattern[str] | None = None


def make_naming_rules(settings: Settings) -> NamingRules:
    """Return the rules of FUNDUS_EYE_FROM_NAME and FUNDUS_PATIENT_FROM."""
    pattern = settings.patient_from
    return NamingRules(settings.eye_from_name, None if pattern is None else re.compile(pattern))


def read_names(
    references: Iterator[ImageReference], source: str, rules: NamingRules, on_warning: OnWarning
) -> Iterator[ImageReference]:
    """Yield the references with eye and patient from their paths below the source.

    The numbers of images without them are passed to `on_warning` at the end. Raises SourceError for a path whose
    patient id is invalid.
    """
    without_eye = without_patient = 0
    for reference in references:
        name = name_below(reference.uri, source)
        eye = find_eye(name) if rules.eye else reference.eye
        patient = reference.patient_id if rules.patient is None else _find_patient(name, rules.patient)
        without_eye += rules.eye and eye is Eye.UNKNOWN
        without_patient += rules.patient is not None and patient is None
        yield replace(reference, eye=eye, patient_id=patient)
    if without_eye:
        on_warning(f"images whose name does not say one eye: {without_eye:,}")
    if without_patient:
        on_warning(f"images whose path does not match --patient-from: {without_patient:,}")


def find_eye(name: str) -> Eye:
    """Return the eye that a path names, such as `7/IMG_OD_2.jpg` or `2_left.jpeg`; unknown for none or both.

    The file name counts before its folders. Words are letters between other characters.
    """
    for part in reversed(name.split("/")):
        stem = part.rpartition(".")[0] or part
        found = {_EYES[word] for word in re.split("[^a-z]+", stem.lower()) if word in _EYES}
        if found:
            return found.pop() if len(found) == 1 else Eye.UNKNOWN
    return Eye.UNKNOWN


def _find_patient(name: str, pattern: re.Pattern[str]) -> str | None:
    match = pattern.search(name)
    if match is None:
        return None
    text = match["patient"] if "patient" in pattern.groupindex else match[1 if pattern.groups else 0]
    try:
        return parse_patient_id(check_printable(text or ""))
    except ValueError as error:
        raise SourceError(f"{name}: patient id {error}") from error
