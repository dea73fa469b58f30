"""Check that all settings are valid and no FUNDUS_ variable is misspelt."""

import os
from collections.abc import Mapping
from difflib import get_close_matches

from producer.doctor.check import Check, CheckStatus
from worker.core.errors import SettingsError
from worker.core.settings import PREFIX, Settings, parse_settings


def check_settings(environment: Mapping[str, str] = os.environ) -> tuple[Settings | None, list[Check]]:
    """Return the settings, or None if one is invalid, and the results."""
    given = {name for name in environment if name.upper().startswith(PREFIX)}
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    misspelt = [_misspelt(name, known) for name in sorted(given) if name.upper() not in known]
    try:
        settings = parse_settings()
    except SettingsError as error:
        return None, [
            Check("settings", CheckStatus.FAILED, error.detail, "correct these variables"),
            *misspelt,
        ]
    detail = f"{len(given) - len(misspelt)} of {len(known)} are set in the environment, the others have their defaults"
    return settings, [Check("settings", CheckStatus.OK, detail), *misspelt]


def _misspelt(name: str, known: set[str]) -> Check:
    close = get_close_matches(name.upper(), known, n=1)
    remedy = f"rename it to {close[0]} or remove it" if close else "remove it"
    return Check("settings", CheckStatus.WARNING, f"{name} is not a setting and has no effect", remedy)
