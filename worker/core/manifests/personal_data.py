"""Reject columns whose names suggest personal data: names, birth dates, record numbers.

Unknown columns are ignored anyway, but a personal one shows that the file was not made for a grading system.
"""

import re
import unicodedata
from collections.abc import Collection

from worker.core.errors import SourceError

_PERSON = r"(?:patients?|pt|pat|subjects?|persons?|clients?|participants?)"
_NAME = rf"{_PERSON}?(?:full|first|last|given|family|sur|fore|middle|maiden|christian)?names?|{_PERSON}?initials"
_NAME_OTHER_LANGUAGES = (
    "vorname|nachname|familienname|geburtsname|nom|prenom|nomdefamille|nombres?|apellidos?|sobrenome|cognome"
)
_BIRTH_DATE = rf".*(?:birth|geburts|geboren|naissance|nacimiento|nascita|nascimento).*|{_PERSON}?(?:dob|yob|bday)"
_RECORD_NUMBER = (
    r"(?:(?:medical|hospital|health|clinic|clinical|chart|case|patients?|pt)*(?:record|chart|file|history))"
    r"(?:number|no|num|nr|id)|medicalrecord|hospital(?:number|no|id)|.*mrn|.*nhs(?:number|no|id)?|ssn"
    r"|socialsecurity(?:number|no)?|(?:national|insurance|passport|aadhaar|abha|curp|cpf|nir|bsn)(?:number|no|id)?"
)
_PERSONAL = re.compile("|".join((_NAME, _NAME_OTHER_LANGUAGES, _BIRTH_DATE, _RECORD_NUMBER)))


def is_personal_column(column: str) -> bool:
    """Whether a column name, compared without case, accents and punctuation, usually stands for personal data."""
    plain = unicodedata.normalize("NFKD", column).casefold()
    return _PERSONAL.fullmatch("".join(char for char in plain if char.isalnum())) is not None


def reject_personal_columns(where: str, columns: Collection[str]) -> None:
    """Raise SourceError `personal_column` for the alphabetically first personal column; `where` names file and line."""
    for column in sorted(filter(is_personal_column, columns)):
        raise SourceError(
            f"{where}, column {column}: looks like personal data; "
            f"remove the column, or accept it with --allow-column {column}",
            code="personal_column",
        )
