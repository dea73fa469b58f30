"""Find environment variables that have the prefix of the settings but are no setting."""

from collections.abc import Iterable
from difflib import get_close_matches


def describe_unknown_settings(environment: Iterable[str], prefix: str, known: Iterable[str]) -> list[str]:
    """Return one sentence for each variable with the prefix that is not in `known`, with the nearest name.

    environment, known: names of variables, known ones in capitals. A misspelt variable would leave its setting at the
    default: a run could go to a ledger that nobody reads. Values are not repeated, as they may be passwords.
    """
    by_name = {name.removeprefix(prefix): name for name in known}
    given = sorted(name for name in environment if name.upper().startswith(prefix))
    return [_describe(name, prefix, by_name) for name in given if name.upper().removeprefix(prefix) not in by_name]


def _describe(name: str, prefix: str, known: dict[str, str]) -> str:
    # Compared without the prefix, which would make all names alike.
    close = get_close_matches(name.upper().removeprefix(prefix), known, n=1)
    remedy = f"rename it to {known[close[0]]} or remove it" if close else "remove it"
    return f"{name}: not a setting; fix: {remedy}"
