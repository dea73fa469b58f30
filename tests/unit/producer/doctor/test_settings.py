import pytest

from producer.doctor.settings import check_settings


def test_valid_settings_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNDUS_CHUNK_SIZE", "16")

    settings, (check,) = check_settings()

    assert settings is not None
    assert settings.chunk_size == 16
    assert check.ok
    assert check.detail.startswith("1 of ")


def test_unknown_variable_fails_with_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNDUS_DATABSE_URL", "sqlite:///x.db")

    settings, (check,) = check_settings()

    assert settings is None
    assert not check.ok
    assert check.detail == "FUNDUS_DATABSE_URL: not a setting; fix: rename it to FUNDUS_DATABASE_URL or remove it"


def test_invalid_value_fails_and_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNDUS_BROKER_URL", "http://u:secret@host")

    settings, (check,) = check_settings()

    assert settings is None
    assert not check.ok
    assert check.detail.startswith("FUNDUS_BROKER_URL: ")
    assert "secret" not in check.detail
