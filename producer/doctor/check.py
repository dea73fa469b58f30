"""Result of one check."""

import re
from dataclasses import dataclass
from enum import StrEnum


class CheckStatus(StrEnum):
    """WARNING: works but should be fixed. ABSENT: not installed, and not needed by a producer."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Check:
    """Result of one check.

    detail: what was found. remedy: how to fix it, None if there is nothing to fix. Neither contains credentials.
    """

    name: str
    status: CheckStatus
    detail: str
    remedy: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the check did not fail."""
        return self.status != CheckStatus.FAILED


def mask_credentials(text: str) -> str:
    """Return the text with the password and the query of every URL in it replaced by `***`."""
    # Up to the last @: a password may contain any character.
    hidden = re.sub(r"(://[^\s:/@]*):\S*@", r"\1:***@", text)
    return re.sub(r"(://[^\s?#]*)\?\S*", r"\1?***", hidden)
