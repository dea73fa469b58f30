"""The check of the PACS, on a real one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from producer.doctor.check import Check, CheckStatus
from producer.doctor.pacs import check_pacs
from tests.services.dicom_objects import make_photograph
from tests.services.orthanc import Orthanc
from tests.services.tls import make_certificate, tls_server
from worker.core.settings import Settings

PHOTOGRAPH = (Path(__file__).parents[4] / "producer" / "demo" / "samples" / "black-frame.jpg").read_bytes()
KEY = "0123456789abcdef0123456789abcdef"

MakeSettings = Callable[..., Settings]


def test_no_pacs_needs_no_check(make_settings: MakeSettings) -> None:
    assert check_pacs(make_settings()) == []


def test_pacs_is_searched_and_read(pacs: Orthanc, make_settings: MakeSettings) -> None:
    settings = make_settings(patient_key=KEY)
    host = f"127.0.0.1:{pacs.port}"
    assert check_pacs(settings) == [Check("pacs", CheckStatus.OK, f"{host}: searched, and found nothing")]

    pacs.add(make_photograph(PHOTOGRAPH))

    (check,) = check_pacs(settings)
    assert (check.status, check.detail) == (
        CheckStatus.OK,
        f"{host}: searched, and read the attributes of one instance",
    )


def test_missing_patient_key_is_a_warning(pacs: Orthanc, make_settings: MakeSettings) -> None:
    _, warning = check_pacs(make_settings())

    assert warning.status == CheckStatus.WARNING
    assert "refuse the PACS" in warning.detail


@pytest.mark.parametrize(
    ("values", "detail", "remedy"),
    [
        ({"dicomweb_password": "wrong"}, "refuses the sign-in: HTTP 401", "correct FUNDUS_DICOMWEB_USER"),
        ({"dicomweb_url": "http://127.0.0.1:1/dicom-web"}, "127.0.0.1:1: ", "start the PACS or correct"),
        ({"dicomweb_token": "token"}, "FUNDUS_DICOMWEB_USER: set one of them", "correct this setting"),
        ({"dicomweb_password": None}, "set both or neither", "correct this setting"),
    ],
)
def test_failure_names_its_remedy(
    pacs: Orthanc, make_settings: MakeSettings, values: dict[str, str], detail: str, remedy: str
) -> None:
    (check,) = check_pacs(make_settings(**values))

    assert check.status == CheckStatus.FAILED
    assert detail in check.detail
    assert remedy in (check.remedy or "")


def test_certificate_of_pacs_and_client_are_checked(pacs: Orthanc, make_settings: MakeSettings, tmp_path: Path) -> None:
    server = make_certificate(tmp_path, "server")
    stranger = make_certificate(tmp_path, "stranger", alternative_name="DNS:stranger.example.org")
    own = make_certificate(tmp_path, "client")
    with tls_server(pacs.port, server, client_authority=own.file) as tls:
        url = f"https://127.0.0.1:{tls.port}/dicom-web"
        signed = {"dicomweb_client_certificate": own.file, "dicomweb_client_key": own.key}
        (trusted,) = check_pacs(make_settings(dicomweb_url=url, patient_key=KEY, dicomweb_ca=server.file, **signed))
        (unsigned,) = check_pacs(make_settings(dicomweb_url=url, dicomweb_ca=server.file))
        (unknown,) = check_pacs(make_settings(dicomweb_url=url, dicomweb_ca=stranger.file, **signed))

    assert trusted.status == CheckStatus.OK
    assert unsigned.status == CheckStatus.FAILED
    assert "CERTIFICATE_VERIFY_FAILED" in unknown.detail
    assert "FUNDUS_DICOMWEB_CA" in (unknown.remedy or "")
