from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.services.fhir_server import PASSWORD, TOKEN, USER, FhirServer, run_fhir_server
from tests.services.tls import make_certificate, tls_server
from tests.unit.worker.core.fhir.photographs import MODEL, PUBLISHER, STUDY_UID, SYSTEM, photograph, study
from worker.core.errors import (
    FhirConflictError,
    FhirRefusedError,
    ObjectRefusedError,
    SettingsError,
    StorageError,
    StoreBusyError,
)
from worker.core.fhir.client import CONFLICT_ATTEMPTS, FhirClient, make_fhir_client
from worker.core.fhir.outcomes import Reading
from worker.core.fhir.transaction import build_transaction
from worker.core.settings import Settings
from worker.core.vocabulary import Eye

STUDY = study(photograph("a", 2), photograph("b", 0, Eye.LEFT))
KINDS = ("Device", "Observation", "DiagnosticReport")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FhirServer]:
    with run_fhir_server(tmp_path / "fhir.db") as server:
        yield server


@pytest.fixture
def client(server: FhirServer, make_settings: Callable[..., Settings]) -> Iterator[FhirClient]:
    client = make_fhir_client(make_settings(fhir_url=server.url, fhir_token=TOKEN))
    yield client
    client.close()


def bundle(found: Any = STUDY) -> dict[str, Any]:
    made = build_transaction(found, PUBLISHER)
    assert made is not None
    return made


def numbers(server: FhirServer) -> tuple[list[int], list[int]]:
    """Number of resources and of versions of each kind."""
    return [len(server.read(kind)) for kind in KINDS], [server.count_versions(kind) for kind in KINDS]


def test_repeated_transaction_changes_nothing(server: FhirServer, client: FhirClient) -> None:
    client.post(bundle())
    client.post(bundle())

    assert numbers(server) == ([1, 2, 1], [1, 2, 1])
    (report,) = server.read("DiagnosticReport")
    assert {one["reference"] for one in report["result"]} == {
        f"Observation/{one['id']}" for one in server.read("Observation")
    }
    assert {one["device"]["reference"] for one in server.read("Observation")} == {
        f"Device/{one['id']}" for one in server.read("Device")
    }


def test_reading_changes_the_same_resources(server: FhirServer, client: FhirClient) -> None:
    client.post(bundle())
    read = [replace(one, grade=1, reading=Reading.FINAL, readers="anna") for one in STUDY.photographs]
    client.post(bundle(replace(STUDY, photographs=read)))

    assert numbers(server) == ([1, 2, 1], [1, 4, 2])
    assert [one["status"] for kind in KINDS[1:] for one in server.read(kind)] == ["final"] * 3


def test_lost_answer_is_repeated_without_a_second_resource(server: FhirServer, client: FhirClient) -> None:
    server.faults.lost = 1
    with pytest.raises(StorageError, match=r"127\.0\.0\.1:\d+: "):
        client.post(bundle())
    client.post(bundle())

    assert numbers(server) == ([1, 2, 1], [1, 2, 1])


def test_conflict_is_tried_again_at_once(server: FhirServer, client: FhirClient) -> None:
    server.faults.before = [(409, {})] * (CONFLICT_ATTEMPTS - 1)
    client.post(bundle())

    assert numbers(server)[0] == [1, 2, 1]


def test_lasting_conflict_is_a_failure_of_the_service(server: FhirServer, client: FhirClient) -> None:
    server.faults.before = [(409, {})] * CONFLICT_ATTEMPTS
    with pytest.raises(FhirConflictError, match="HTTP 409 for the transaction"):
        client.post(bundle())

    assert len(server.requests) == CONFLICT_ATTEMPTS


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_temporary_status_is_a_failure_of_the_service(server: FhirServer, client: FhirClient, status: int) -> None:
    server.faults.before = [(status, {})]
    with pytest.raises(StorageError, match=f"HTTP {status}"):
        client.post(bundle())
    client.post(bundle())

    assert numbers(server)[0] == [1, 2, 1]


def test_server_that_asks_to_wait_gets_no_request_in_that_time(server: FhirServer, client: FhirClient) -> None:
    server.faults.before = [(429, {"Retry_After": "30"})]
    for _ in range(2):
        with pytest.raises(StoreBusyError) as caught:
            client.post(bundle())
        assert 0 < caught.value.retry_after_s <= 30

    assert len(server.requests) == 1


def test_several_resources_with_one_identifier_are_named(server: FhirServer, client: FhirClient) -> None:
    device = bundle()["entry"][0]["resource"]
    server.add(device)
    server.add(device)

    with pytest.raises(FhirRefusedError) as caught:
        client.post(bundle())

    assert caught.value.code == "fhir_ambiguous"
    assert f"HTTP 412 for entry 0, Device {MODEL}/1.2.0, issue multiple-matches: several" in caught.value.detail
    assert numbers(server)[0] == [2, 0, 0]


def test_refused_entry_is_named_without_a_word_of_its_content(server: FhirServer, client: FhirClient) -> None:
    named = replace(STUDY, subject={"system": "urn:oid:1.2", "value": "MARKED-PATIENT"})
    wrong = bundle(named)
    wrong["entry"][2]["resource"]["unknown"] = "MARKED-VALUE"

    with pytest.raises(FhirRefusedError) as caught:
        client.post(wrong)

    place = f"entry 2, Observation night-1/{STUDY_UID}/left/{MODEL}, issue invalid"
    assert caught.value.code == "fhir_refused"
    assert caught.value.detail == f"127.0.0.1:{server.port}: HTTP 422 for {place}"
    assert numbers(server)[0] == [0, 0, 0]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (422, FhirRefusedError),
        (412, FhirRefusedError),
        (403, ObjectRefusedError),
        (500, StorageError),
        (0, StorageError),
    ],
)
def test_failed_entry_within_an_answer_of_200_is_named(
    server: FhirServer, client: FhirClient, status: int, error: type[Exception]
) -> None:
    server.faults.partial = [status]

    with pytest.raises(error, match=f"HTTP {status} for entry 3, DiagnosticReport night-1/{STUDY_UID}/{MODEL}"):
        client.post(bundle())


@pytest.mark.parametrize("body", ["", "<html>Sign in</html>", "[]", '{"type": "transaction-response", "entry": []}'])
def test_answer_without_all_entries_confirms_nothing(server: FhirServer, client: FhirClient, body: str) -> None:
    server.faults.body = [body]

    with pytest.raises(StorageError, match="HTTP 200 without a transaction-response for each entry"):
        client.post(bundle())


def test_other_place_than_the_base_is_named(server: FhirServer, make_settings: Callable[..., Settings]) -> None:
    client = make_fhir_client(make_settings(fhir_url=f"{server.url}/r4", fhir_token=TOKEN))
    with pytest.raises(StorageError, match="FUNDUS_FHIR_URL is not the base of a FHIR server"):
        client.post(bundle())
    client.close()


def test_sign_in_by_user_or_by_token_from_a_file(
    server: FhirServer, make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("old-token\n")
    client = make_fhir_client(make_settings(fhir_url=server.url, fhir_token_file=file))
    with pytest.raises(StorageError, match="refuses the sign-in: HTTP 401") as caught:
        client.post(bundle())
    assert "old-token" not in str(caught.value)
    file.write_text(TOKEN)
    client.post(bundle())
    client.close()
    client = make_fhir_client(make_settings(fhir_url=server.url, fhir_user=USER, fhir_password=PASSWORD))
    client.post(bundle())
    client.close()

    assert numbers(server) == ([1, 2, 1], [1, 2, 1])


def test_certificate_is_checked_with_the_given_authority(
    server: FhirServer, make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    certificate = make_certificate(tmp_path, "fhir")
    with tls_server(server.port, certificate) as tls:
        url = f"https://127.0.0.1:{tls.port}/fhir"
        unknown = make_fhir_client(make_settings(fhir_url=url, fhir_token=TOKEN))
        with pytest.raises(StorageError, match="CERTIFICATE_VERIFY_FAILED"):
            unknown.post(bundle())
        client = make_fhir_client(make_settings(fhir_url=url, fhir_token=TOKEN, fhir_ca=certificate.file))
        client.post(bundle())
        client.close()

    assert numbers(server)[0] == [1, 2, 1]


def test_missing_address_names_the_setting(make_settings: Callable[..., Settings]) -> None:
    with pytest.raises(SettingsError, match="FUNDUS_FHIR_URL is not set"):
        make_fhir_client(make_settings())


def test_identifiers_are_found_again_by_their_system(server: FhirServer, client: FhirClient) -> None:
    client.post(bundle())

    assert [one["identifier"][0]["system"] for one in server.read("Observation")] == [SYSTEM, SYSTEM]
