"""Check that all settings are valid and no FUNDUS_ variable is misspelt."""

import os

from producer.doctor.check import Check, CheckStatus
from worker.core.errors import SettingsError
from worker.core.settings import PREFIX, Settings, parse_settings

NAME = "settings"


def check_settings() -> tuple[Settings | None, list[Check]]:
    """Return the settings, or None if one is invalid or unknown, and the result."""
    try:
        settings = parse_settings()
    except SettingsError as error:
        return None, [Check(NAME, CheckStatus.FAILED, error.detail, "correct these variables")]
    given = sum(name.upper().startswith(PREFIX) for name in os.environ)
    detail = f"{given} of {len(Settings.model_fields)} are set in the environment, the others have their defaults"
    return settings, [Check(NAME, CheckStatus.OK, detail)]
