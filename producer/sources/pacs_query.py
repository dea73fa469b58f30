"""Parse the query of a `dicomweb://pacs?...` source, and match answers against it.

A PACS may ignore an attribute that it cannot search by and answer with everything, so each answer is matched again.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from worker.core.dicom.instance_header import SERIES, SOP_CLASS, SOP_INSTANCE, STUDY, STUDY_DATE
from worker.core.dicomweb.client import read_texts
from worker.core.errors import SourceError
from worker.core.uris import PACS, UID_PATTERN

MAX_VALUE_CHARS = 1000
MODALITIES_IN_STUDY = "00080061"
_DATES = re.compile(r"(\d{8})?(-?)(\d{8})?")
_STUDY_KEYS = {"StudyDate": STUDY_DATE, "StudyInstanceUID": STUDY, "ModalitiesInStudy": MODALITIES_IN_STUDY}
_UID_KEYS = {"SeriesInstanceUID": SERIES, "SOPInstanceUID": SOP_INSTANCE, "SOPClassUID": SOP_CLASS}
_TEXT_KEYS = {
    "Modality": "00080060",
    "InstitutionName": "00080080",
    "StationName": "00081010",
    "ManufacturerModelName": "00081090",
}
KEYS = (*_STUDY_KEYS, *_UID_KEYS, *_TEXT_KEYS)
"""Attributes by which a source may select. Those of persons are not among them: the ledger records the source."""


@dataclass(frozen=True, slots=True)
class StudyDates:
    """A range of study dates; None for an open end."""

    first: date | None = None
    last: date | None = None

    @property
    def value(self) -> str:
        """The range as QIDO has it, such as `20261101-20261130`."""
        if self.first == self.last and self.first is not None:
            return f"{self.first:%Y%m%d}"
        return "-".join("" if end is None else f"{end:%Y%m%d}" for end in (self.first, self.last))

    def contain(self, day: date) -> bool:
        """Whether the day is in the range."""
        return (self.first is None or day >= self.first) and (self.last is None or day <= self.last)


@dataclass(frozen=True, slots=True)
class PacsQuery:
    """Attributes and values to select by; each of several values of one attribute matches."""

    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    dates: StudyDates | None = None

    @property
    def location(self) -> str:
        """The source as the ledger records it."""
        query = urlencode(self._parameters(KEYS), safe=",*")
        return f"dicomweb://{PACS}?{query}" if query else f"dicomweb://{PACS}"

    @property
    def study_parameters(self) -> Sequence[tuple[str, str]]:
        """Parameters of a search for studies."""
        return self._searchable(_STUDY_KEYS)

    @property
    def instance_parameters(self) -> Sequence[tuple[str, str]]:
        """Parameters of a search for instances within a study."""
        return self._searchable([*_UID_KEYS, *_TEXT_KEYS])

    @property
    def instance_tags(self) -> list[str]:
        """Attributes that `matches_instance` needs."""
        return [tag for key, tag in (_UID_KEYS | _TEXT_KEYS).items() if key in self.values]

    def matches_study(self, study: Mapping[str, Any]) -> bool:
        """Whether a study matches. One without the list of its modalities does: its instances have them."""
        if self.dates is not None:
            days = [day for text in read_texts(study, STUDY_DATE) if (day := _find_date(text))]
            if not any(self.dates.contain(day) for day in days):
                return False
        return self._matches(study, STUDY, "StudyInstanceUID") and (
            not read_texts(study, MODALITIES_IN_STUDY) or self._matches(study, MODALITIES_IN_STUDY, "ModalitiesInStudy")
        )

    def matches_instance(self, instance: Mapping[str, Any]) -> bool:
        """Whether an instance matches. One without an attribute that the query names does not."""
        return all(self._matches(instance, tag, key) for key, tag in (_UID_KEYS | _TEXT_KEYS).items())

    def _matches(self, dataset: Mapping[str, Any], tag: str, key: str) -> bool:
        if key not in self.values:
            return True
        # The wildcards of QIDO are * and ?; those of fnmatch have brackets, too.
        patterns = [value.upper().replace("[", "[[]") for value in self.values[key]]
        return any(fnmatchcase(text.upper(), pattern) for text in read_texts(dataset, tag) for pattern in patterns)

    def _searchable(self, keys: Iterable[str]) -> list[tuple[str, str]]:
        """Return parameters without lists that are not of UIDs: QIDO has no others."""
        return [(key, text) for key, text in self._parameters(keys) if key.endswith("UID") or "," not in text]

    def _parameters(self, keys: Iterable[str]) -> list[tuple[str, str]]:
        texts = {key: ",".join(values) for key, values in self.values.items()}
        if self.dates is not None:
            texts["StudyDate"] = self.dates.value
        return [(key, texts[key]) for key in keys if key in texts]


def parse_pacs_query(location: str) -> PacsQuery:
    """Parse `dicomweb://pacs?KEY=VALUE&...`. Raises SourceError; values of unknown attributes are not repeated."""
    parts = urlsplit(location)
    if parts.scheme != "dicomweb" or parts.netloc != PACS or parts.path not in ("", "/") or parts.fragment:
        raise SourceError(
            f"a PACS is a source of the form dicomweb://{PACS}?StudyDate=20261101-20261130; its address is in"
            " FUNDUS_DICOMWEB_URL"
        )
    try:
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise SourceError(f"the query of dicomweb://{PACS} is not of the form KEY=VALUE&KEY=VALUE") from None
    values: dict[str, tuple[str, ...]] = {}
    dates = None
    for key, text in pairs:
        if key not in KEYS:
            raise SourceError(f"{key[:40]!r} cannot select in a PACS; fix: use {', '.join(KEYS)}")
        if key in values or (key == "StudyDate" and dates is not None):
            raise SourceError(f"{key} is given twice; fix: separate several values by commas")
        if key == "StudyDate":
            dates = parse_study_dates(text)
        else:
            values[key] = _parse_values(key, text)
    return PacsQuery(values, dates)


def parse_study_dates(text: str) -> StudyDates:
    """Parse a date or a range with one or two ends, as in `20261101-`. Raises SourceError."""
    match = _DATES.fullmatch(text)
    first, dash, last = match.groups() if match else (None, "", None)
    days = [None if end is None else _find_date(end) for end in (first, last)]
    is_valid = (first or last) and (dash or not (first and last)) and (dash or first)
    if not is_valid or any(end is not None and day is None for end, day in zip((first, last), days, strict=True)):
        raise SourceError(f"StudyDate {text[:40]!r} must be a date or a range, such as 20261101-20261130")
    if not dash:
        return StudyDates(days[0], days[0])
    if days[0] is not None and days[1] is not None and days[0] > days[1]:
        raise SourceError(f"StudyDate {text} ends before it begins")
    return StudyDates(*days)


def _parse_values(key: str, text: str) -> tuple[str, ...]:
    values = tuple(value.strip() for value in text.split(","))
    if not all(values) or len(text) > MAX_VALUE_CHARS or not text.isprintable():
        raise SourceError(f"{key} must be one or several values, separated by commas")
    if key.endswith("UID") and not all(UID_PATTERN.fullmatch(value) for value in values):
        raise SourceError(f"{key} must be a UID, or several separated by commas")
    return values


def _find_date(text: str) -> date | None:
    try:
        return datetime.strptime(text, "%Y%m%d").date()  # noqa: DTZ007 - a date without a time
    except ValueError:
        return None
