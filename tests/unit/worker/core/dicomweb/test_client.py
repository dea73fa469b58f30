"""The client against a real PACS, where it matters behind a proxy that breaks connections."""

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.services.dicom_objects import Exposure, make_photograph
from tests.services.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.services.orthanc import PASSWORD, REFUSED_UID, USER, Orthanc
from worker.core.dicomweb.client import DicomwebClient, read_text
from worker.core.dicomweb.connect import make_dicomweb_client
from worker.core.errors import ImageMissingError, ImageTooLargeError, ObjectRefusedError, StorageError, StoreBusyError
from worker.core.settings import Settings
from worker.core.uris import InstancePath

PHOTOGRAPH = (Path(__file__).parents[5] / "producer" / "demo" / "samples" / "IDRiD_001.jpg").read_bytes()
MAX_BYTES = 2**20

MakeSettings = Callable[..., Settings]


@pytest.fixture
def client(pacs: Orthanc, make_settings: MakeSettings) -> Iterator[DicomwebClient]:
    client = make_dicomweb_client(make_settings())
    yield client
    client.close()


@pytest.fixture
def proxy(pacs: Orthanc) -> Iterator[FaultProxy]:
    with fault_proxy(pacs.port) as proxy:
        yield proxy


@pytest.fixture
def proxied(proxy: FaultProxy, make_settings: MakeSettings) -> Iterator[DicomwebClient]:
    """A client whose connections pass the proxy."""
    url = f"http://127.0.0.1:{proxy.port}/dicom-web"
    client = make_dicomweb_client(make_settings(dicomweb_url=url, dicomweb_timeout_s=5, transfer_timeout_s=2))
    yield client
    client.close()


def path_of(exposure: Exposure) -> InstancePath:
    return InstancePath(exposure.study_uid, exposure.series_uid, exposure.instance_uid)


def test_retrieve_returns_the_bytes_of_the_stored_file(pacs: Orthanc, client: DicomwebClient) -> None:
    file = make_photograph(PHOTOGRAPH)
    pacs.add(file)

    assert client.retrieve(path_of(Exposure()), max_bytes=MAX_BYTES) == pacs.read(Exposure().instance_uid)
    assert PHOTOGRAPH in client.retrieve(path_of(Exposure()), max_bytes=MAX_BYTES)


def test_metadata_has_the_attributes_without_the_pixels(pacs: Orthanc, client: DicomwebClient) -> None:
    pacs.add(make_photograph(PHOTOGRAPH))

    found = client.metadata(path_of(Exposure()))

    assert read_text(found, "00200062") == "R"
    assert read_text(found, "00280010") == "512"
    assert "Value" not in found.get("7FE00010", {})


def test_search_finds_each_instance_once_over_pages(
    pacs: Orthanc, client: DicomwebClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.core.dicomweb.client.PAGE_SIZE", 2)
    exposures = [Exposure(name=f"photograph-{number}") for number in range(5)]
    pacs.add(*(make_photograph(PHOTOGRAPH, exposure) for exposure in exposures))

    found = list(client.search("instances", [], study=Exposure().study_uid, fields=["00200062"]))

    assert sorted(read_text(one, "00080018") or "" for one in found) == sorted(e.instance_uid for e in exposures)
    assert {read_text(one, "00200062") for one in found} == {"R"}


def test_search_ends_at_its_limit(pacs: Orthanc, client: DicomwebClient) -> None:
    pacs.add(*(make_photograph(PHOTOGRAPH, Exposure(study=f"study-{number}")) for number in range(3)))

    assert len(list(client.search("studies", [], limit=2))) == 2


def test_search_in_an_unknown_study_finds_nothing(pacs: Orthanc, client: DicomwebClient) -> None:
    assert list(client.search("instances", [], study="1.2.3")) == []
    assert list(client.search("studies", [("StudyInstanceUID", "1.2.3")])) == []


def test_stored_instance_is_found_and_equal(pacs: Orthanc, client: DicomwebClient) -> None:
    files = [make_photograph(PHOTOGRAPH, Exposure(name=name)) for name in ("one", "two")]

    result = client.store(files, study=Exposure().study_uid)

    assert result.status == 200
    assert result.stored == {Exposure(name="one").instance_uid, Exposure(name="two").instance_uid}
    assert result.failed == {}
    assert PHOTOGRAPH in pacs.read(Exposure(name="one").instance_uid)


def test_storing_in_another_study_fails(pacs: Orthanc, client: DicomwebClient) -> None:
    result = client.store([make_photograph(PHOTOGRAPH)], study="1.2.3")

    assert result.status == 409
    assert result.stored == frozenset()
    assert set(result.failed) == {Exposure().instance_uid}
    assert pacs.instances() == []


def test_unknown_instance_is_missing(pacs: Orthanc, client: DicomwebClient) -> None:
    pacs.add(make_photograph(PHOTOGRAPH))
    known = path_of(Exposure())

    for unknown in (
        InstancePath("1.2.3", "1.2.4", "1.2.5"),
        dataclasses.replace(known, series="1.2.4", instance="1.2.5"),
        dataclasses.replace(known, instance="1.2.5"),
    ):
        with pytest.raises(ImageMissingError, match="has no instance"):
            client.retrieve(unknown, max_bytes=MAX_BYTES)
        with pytest.raises(ImageMissingError, match="has no instance"):
            client.metadata(unknown)


def test_instance_that_is_not_served_is_refused(pacs: Orthanc, client: DicomwebClient) -> None:
    refused = Exposure(uid=REFUSED_UID)
    pacs.add(make_photograph(PHOTOGRAPH, refused))

    for read in (partial(client.retrieve, max_bytes=MAX_BYTES), client.metadata, client.probe):
        with pytest.raises(ObjectRefusedError, match=f"does not serve {REFUSED_UID}: HTTP 403"):
            read(path_of(refused))


def test_wrong_address_is_an_outage_and_no_missing_image(pacs: Orthanc, make_settings: MakeSettings) -> None:
    pacs.add(make_photograph(PHOTOGRAPH))
    client = make_dicomweb_client(make_settings(dicomweb_url=f"{pacs.address}/wrong"))

    with pytest.raises(StorageError, match="refuses a search of studies: HTTP 404"):
        client.retrieve(path_of(Exposure()), max_bytes=MAX_BYTES)
    client.close()


def test_wrong_password_is_an_outage_and_in_no_error(pacs: Orthanc, make_settings: MakeSettings) -> None:
    client = make_dicomweb_client(make_settings(dicomweb_password="wrong-password"))

    with pytest.raises(StorageError, match="refuses the sign-in: HTTP 401") as caught:
        client.retrieve(path_of(Exposure()), max_bytes=MAX_BYTES)

    assert "wrong-password" not in str(caught.value)
    client.close()


def test_file_above_the_limit_is_refused(pacs: Orthanc, client: DicomwebClient) -> None:
    pacs.add(make_photograph(PHOTOGRAPH))
    size = len(pacs.read(Exposure().instance_uid))

    assert len(client.retrieve(path_of(Exposure()), max_bytes=size)) == size
    with pytest.raises(ImageTooLargeError, match=f"{size} bytes, the limit is {size - 1}"):
        client.retrieve(path_of(Exposure()), max_bytes=size - 1)


def test_transfer_ends_as_soon_as_it_exceeds_the_limit(
    pacs: Orthanc, client: DicomwebClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.core.dicomweb.client.ENVELOPE_BYTES", 0)
    pacs.add(make_photograph(PHOTOGRAPH))

    with pytest.raises(ImageTooLargeError, match="the limit"):
        client.retrieve(path_of(Exposure()), max_bytes=1000)


@pytest.mark.parametrize("kind", ["reset", "cut", "end"])
def test_broken_connection_is_an_outage(pacs: Orthanc, proxy: FaultProxy, proxied: DicomwebClient, kind: str) -> None:
    pacs.add(make_photograph(PHOTOGRAPH))
    proxy.inject(Fault(kind, after_bytes=5000))

    with pytest.raises(StorageError):
        proxied.retrieve(path_of(Exposure()), max_bytes=MAX_BYTES)

    proxy.inject(None)
    assert PHOTOGRAPH in proxied.retrieve(path_of(Exposure()), max_bytes=MAX_BYTES)


def test_failed_requests_keep_no_place_among_the_parallel_ones(
    pacs: Orthanc, proxy: FaultProxy, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.core.dicomweb.client.ENVELOPE_BYTES", 0)
    pacs.add(make_photograph(PHOTOGRAPH))
    url = f"http://127.0.0.1:{proxy.port}/dicom-web"
    client = make_dicomweb_client(make_settings(dicomweb_url=url, dicomweb_connections=1))

    for _ in range(2):
        with pytest.raises(ImageTooLargeError):
            client.retrieve(path_of(Exposure()), max_bytes=1000)
    for fault in (Fault("unavailable"), Fault("cut", after_bytes=5000)):
        proxy.inject(fault, times=1)
        with pytest.raises(StorageError, match=r"HTTP 503|ProtocolError"):
            client.retrieve(path_of(Exposure()), max_bytes=MAX_BYTES)

    assert PHOTOGRAPH in client.retrieve(path_of(Exposure()), max_bytes=MAX_BYTES)
    client.close()


def test_transfer_ends_at_its_timeout(pacs: Orthanc, proxy: FaultProxy, proxied: DicomwebClient) -> None:
    pacs.add(make_photograph(PHOTOGRAPH + bytes(2**20)))
    proxy.inject(Fault("slow", delay_s=0.5))

    with pytest.raises(StorageError, match="incomplete after 2 s"):
        proxied.retrieve(path_of(Exposure()), max_bytes=2**22)


def test_busy_pacs_gets_the_time_that_it_asks_for(pacs: Orthanc, proxy: FaultProxy, proxied: DicomwebClient) -> None:
    pacs.add(make_photograph(PHOTOGRAPH))
    proxy.inject(Fault("unavailable", retry_after_s=30))

    with pytest.raises(StoreBusyError, match="HTTP 503, asks to wait 30 s") as caught:
        proxied.retrieve(path_of(Exposure()), max_bytes=MAX_BYTES)
    assert caught.value.retry_after_s == 30
    assert proxy.faults == 1

    proxy.inject(None)
    with pytest.raises(StoreBusyError, match="asked to wait, for another"):
        proxied.metadata(path_of(Exposure()))


def test_secrets_are_read_from_files_for_each_request(
    pacs: Orthanc, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("FUNDUS_DICOMWEB_PASSWORD")
    file = tmp_path / "password"
    file.write_text("old-password\n")
    client = make_dicomweb_client(make_settings(dicomweb_user=USER, dicomweb_password_file=file))
    with pytest.raises(StorageError, match="HTTP 401"):
        list(client.search("studies", []))

    file.write_text(f"{PASSWORD}\n")

    assert list(client.search("studies", [])) == []
    client.close()
