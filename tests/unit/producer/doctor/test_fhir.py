"""The check of the FHIR server, over HTTP."""

from collections.abc import Callable, Iterator

import pytest

from producer.doctor.check import Check, CheckStatus
from producer.doctor.fhir import check_fhir
from tests.services.fhir_server import TOKEN, FhirServer, run_fhir_server
from worker.core.settings import Settings

SYSTEM = "https://clinic.example/fundus"
MakeSettings = Callable[..., Settings]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FhirServer]:
    with run_fhir_server(tmp_path_factory.mktemp("fhir") / "fhir.db") as server:
        yield server


@pytest.fixture
def make(server: FhirServer, make_settings: MakeSettings) -> MakeSettings:
    return lambda **values: make_settings(
        **{"fhir_url": server.url, "fhir_token": TOKEN, "fhir_system": SYSTEM} | values
    )


def test_no_fhir_server_needs_no_check(make_settings: MakeSettings) -> None:
    assert check_fhir(make_settings()) == []


def test_server_is_read_and_searched_and_nothing_is_written(server: FhirServer, make: MakeSettings) -> None:
    detail = f"127.0.0.1:{server.port}: FHIR 4.0.1, signed in and searched"
    assert check_fhir(make()) == [Check("fhir", CheckStatus.OK, detail)]
    assert server.requests == []


@pytest.mark.parametrize(
    ("values", "detail", "remedy"),
    [
        ({"fhir_token": "wrong"}, "refuses the sign-in: HTTP 401", "correct FUNDUS_FHIR_USER"),
        ({"fhir_url": "http://127.0.0.1:1/fhir"}, "127.0.0.1:1: ", "start the server or correct FUNDUS_FHIR_URL"),
        ({"fhir_user": "fundus"}, "FUNDUS_FHIR_USER", "correct this setting"),
        ({"fhir_system": None}, "FUNDUS_FHIR_SYSTEM is not set", "set it to a URI of yours"),
    ],
)
def test_failure_names_its_remedy(make: MakeSettings, values: dict[str, str], detail: str, remedy: str) -> None:
    (check,) = check_fhir(make(**values))
    assert check.status == CheckStatus.FAILED
    assert detail in check.detail
    assert remedy in (check.remedy or "")


def test_server_of_another_version_is_refused(
    server: FhirServer, make: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "version", "5.0.0")
    (check,) = check_fhir(make())
    assert (check.status, "FHIR 5.0.0" in check.detail) == (CheckStatus.FAILED, True)
