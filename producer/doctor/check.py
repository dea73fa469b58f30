"""What one check found."""

import re
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """`WARNING` works but should be mended; `ABSENT` is not installed here and not needed by a producer."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding; `remedy` says what to do unless all is well. Neither holds a credential."""

    name: str
    verdict: Verdict
    detail: str
    remedy: str | None = None

    @property
    def ok(self) -> bool:
        """Whether work can go on."""
        return self.verdict != Verdict.FAILED


def masked(text: str) -> str:
    """The text with the user information's password and the query of every address in it hidden."""
    # Up to the last @: a password may hold any character.
    hidden = re.sub(r"(://[^\s:/@]*):\S*@", r"\1:***@", text)
    return re.sub(r"(://[^\s?#]*)\?\S*", r"\1?***", hidden)
