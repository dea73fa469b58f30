"""Refuse a column whose name says that it holds what names a person: a name, a birth date, a record number.

Such a column would be left out anyway; that it is there says that the file was not meant for a grading system.
"""

import re
import unicodedata
from collections.abc import Collection

from worker.core.errors import SourceError

_WHO = r"(?:patients?|pt|pat|subjects?|persons?|clients?|participants?)"
_NAME = rf"{_WHO}?(?:full|first|last|given|family|sur|fore|middle|maiden|christian)?names?|{_WHO}?initials"
_NAME_ELSEWHERE = (
    "vorname|nachname|familienname|geburtsname|nom|prenom|nomdefamille|nombres?|apellidos?|sobrenome|cognome"
)
_BIRTH = rf".*(?:birth|geburts|geboren|naissance|nacimiento|nascita|nascimento).*|{_WHO}?(?:dob|yob|bday)"
_RECORD = (
    r"(?:(?:medical|hospital|health|clinic|clinical|chart|case|patients?|pt)*(?:record|chart|file|history))"
    r"(?:number|no|num|nr|id)|medicalrecord|hospital(?:number|no|id)|.*mrn|.*nhs(?:number|no|id)?|ssn"
    r"|socialsecurity(?:number|no)?|(?:national|insurance|passport|aadhaar|abha|curp|cpf|nir|bsn)(?:number|no|id)?"
)
_PERSONAL = re.compile("|".join((_NAME, _NAME_ELSEWHERE, _BIRTH, _RECORD)))


def looks_personal(column: str) -> bool:
    """Whether the column's name, without case, accents, spaces and signs, is one that such columns commonly have."""
    plain = unicodedata.normalize("NFKD", column).casefold()
    return _PERSONAL.fullmatch("".join(char for char in plain if char.isalnum())) is not None


def refuse_personal(where: str, columns: Collection[str]) -> None:
    """Raises SourceError `personal_column`, naming the place and the first such column in the order of the alphabet."""
    for column in sorted(filter(looks_personal, columns)):
        raise SourceError(
            f"{where}, column {column}: looks as if it named a person; "
            f"remove it, or say with --allow-column {column} that it does not",
            code="personal_column",
        )
