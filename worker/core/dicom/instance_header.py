"""The facts of a DICOM instance that may leave its header, read from the DICOM JSON model (PS3.18, annex F).

Nothing that names or describes a person is among them. The patient's id is read apart, for its keyed hash alone.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from worker.core.errors import ImageDecodeError
from worker.core.manifests.fields import SOURCE_PATTERN
from worker.core.uris import UID_PATTERN
from worker.core.vocabulary import Eye

Metadata = Mapping[str, Any]
"""Attributes of one instance by tag, such as `{"00200062": {"vr": "CS", "Value": ["R"]}}`."""

IMAGE_TYPE, SOP_CLASS, SOP_INSTANCE, STUDY_DATE = "00080008", "00080016", "00080018", "00080020"
MODEL_NAME, ANATOMIC_REGION, REGION_MODIFIER = "00081090", "00082218", "00082220"
CONTRAST_AGENT, CONTRAST_AGENT_CODES = "00180010", "00180012"
STUDY, SERIES, LATERALITY, IMAGE_LATERALITY = "0020000D", "0020000E", "00200060", "00200062"
DEVICE_TYPE, LIGHT_PATH_FILTERS, IMAGE_PATH_FILTERS = "00220015", "00220017", "00220018"
PHOTOMETRIC_INTERPRETATION, NUMBER_OF_FRAMES = "00280004", "00280008"
PATIENT_ID, PATIENT_ID_ISSUER = "00100020", "00100021"

HEADER_TAGS = (
    IMAGE_TYPE,
    SOP_CLASS,
    SOP_INSTANCE,
    STUDY_DATE,
    MODEL_NAME,
    ANATOMIC_REGION,
    CONTRAST_AGENT,
    CONTRAST_AGENT_CODES,
    STUDY,
    SERIES,
    LATERALITY,
    IMAGE_LATERALITY,
    DEVICE_TYPE,
    LIGHT_PATH_FILTERS,
    IMAGE_PATH_FILTERS,
    PHOTOMETRIC_INTERPRETATION,
    NUMBER_OF_FRAMES,
)
"""Attributes that `read_instance_header` uses; a query names each as `includefield`."""
PATIENT_TAGS = (PATIENT_ID, PATIENT_ID_ISSUER)
"""Attributes that `read_patient_id` uses."""

MAX_DATE_CHARS = 8
_EYES = {"R": Eye.RIGHT, "L": Eye.LEFT, "B": Eye.UNKNOWN, "U": Eye.UNKNOWN}
_EYE_CODES = {"24028007": Eye.RIGHT, "G-A100": Eye.RIGHT, "7771000": Eye.LEFT, "G-A101": Eye.LEFT}


@dataclass(frozen=True, slots=True)
class InstanceHeader:
    """Facts of one instance. Absent attributes are None, empty or the default.

    sop_class_uid, sop_instance_uid, study_uid, series_uid: valid UIDs; study and series may be absent.
    eye: unknown also for both eyes, and for attributes that contradict each other (`eye_is_contradictory`).
    camera_model: None if it has other characters than a manifest's `source` may have.
    image_type: values of Image Type. filters, devices, regions: code values, such as `409898007` (fundus camera).
    has_contrast_agent: whether a dye was given, as for angiography; its name is not kept.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_uid: str | None = None
    series_uid: str | None = None
    study_date: date | None = None
    eye: Eye = Eye.UNKNOWN
    eye_is_contradictory: bool = False
    camera_model: str | None = None
    image_type: tuple[str, ...] = ()
    filters: frozenset[str] = frozenset()
    devices: frozenset[str] = frozenset()
    regions: frozenset[str] = frozenset()
    has_contrast_agent: bool = False
    photometric_interpretation: str | None = None
    frames: int = 1


def read_instance_header(metadata: Metadata) -> InstanceHeader:
    """Return the facts of an instance from its DICOM JSON.

    A source may lack any attribute but the two UIDs. Raises ImageDecodeError for missing or malformed UIDs; no error
    repeats a value of the header.
    """
    eyes = set(_read_eyes(metadata))
    return InstanceHeader(
        sop_class_uid=_read_uid(metadata, SOP_CLASS, "SOP Class UID"),
        sop_instance_uid=_read_uid(metadata, SOP_INSTANCE, "SOP Instance UID"),
        study_uid=_find_uid(metadata, STUDY),
        series_uid=_find_uid(metadata, SERIES),
        study_date=_parse_date(_first(metadata, STUDY_DATE)),
        eye=eyes.pop() if len(eyes) == 1 else Eye.UNKNOWN,
        eye_is_contradictory=len(eyes) > 1,
        camera_model=_parse_model(_first(metadata, MODEL_NAME)),
        image_type=tuple(value.upper() for value in _texts(metadata, IMAGE_TYPE)),
        filters=frozenset((*_codes(metadata, LIGHT_PATH_FILTERS), *_codes(metadata, IMAGE_PATH_FILTERS))),
        devices=frozenset(_codes(metadata, DEVICE_TYPE)),
        regions=frozenset(_codes(metadata, ANATOMIC_REGION)),
        has_contrast_agent=bool(_first(metadata, CONTRAST_AGENT) or _items(metadata, CONTRAST_AGENT_CODES)),
        photometric_interpretation=_first(metadata, PHOTOMETRIC_INTERPRETATION).upper() or None,
        frames=_parse_count(_first(metadata, NUMBER_OF_FRAMES)),
    )


def read_patient_id(metadata: Metadata) -> str | None:
    """Return the patient's id as `ID^^^ISSUER`, or as `ID` without an issuer; None without an id.

    For `ImageReference.patient_id` alone, which a producer replaces by its keyed hash. The issuer belongs to the id:
    two sites may each have a patient 1001. The form is that of HL7 version 2 (data type CX).
    """
    patient_id, issuer = _first(metadata, PATIENT_ID), _first(metadata, PATIENT_ID_ISSUER)
    if not patient_id:
        return None
    return f"{patient_id}^^^{issuer}" if issuer else patient_id


def _read_eyes(metadata: Metadata) -> Iterator[Eye]:
    """Yield the eye of each attribute that gives one; never one for both eyes."""
    for tag in (IMAGE_LATERALITY, LATERALITY):
        eye = _EYES.get(_first(metadata, tag).upper(), Eye.UNKNOWN)
        if eye is not Eye.UNKNOWN:
            yield eye
    for region in _items(metadata, ANATOMIC_REGION):
        yield from (_EYE_CODES[code] for code in _codes(region, REGION_MODIFIER) if code in _EYE_CODES)


def _read_uid(metadata: Metadata, tag: str, name: str) -> str:
    uid = _find_uid(metadata, tag)
    if uid is None:
        raise ImageDecodeError(f"DICOM header: {name} ({tag[:4]},{tag[4:]}) is missing or malformed")
    return uid


def _find_uid(metadata: Metadata, tag: str) -> str | None:
    uid = _first(metadata, tag)
    return uid if UID_PATTERN.fullmatch(uid) else None


def _parse_date(text: str) -> date | None:
    try:
        return datetime.strptime(text[:MAX_DATE_CHARS], "%Y%m%d").date()  # noqa: DTZ007 - a date without a time
    except ValueError:
        return None


def _parse_model(text: str) -> str | None:
    return text if re.fullmatch(SOURCE_PATTERN, text) else None


def _parse_count(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_DATE_CHARS else 1


def _codes(metadata: Metadata, tag: str) -> list[str]:
    """Return the Code Values of a code sequence."""
    return [code for item in _items(metadata, tag) if (code := _first(item, "00080100"))]


def _items(metadata: Metadata, tag: str) -> list[Metadata]:
    return [value for value in _values(metadata, tag) if isinstance(value, Mapping)]


def _first(metadata: Metadata, tag: str) -> str:
    return next(iter(_texts(metadata, tag)), "")


def _texts(metadata: Metadata, tag: str) -> list[str]:
    """Return the values as texts without padding; an absent value keeps its place as an empty text."""
    values = _values(metadata, tag)
    return [str(value).strip(" \0") if isinstance(value, str | int) else "" for value in values]


def _values(metadata: Metadata, tag: str) -> list[Any]:
    element = metadata.get(tag)
    values = element.get("Value") if isinstance(element, Mapping) else None
    return values if isinstance(values, list) else []
