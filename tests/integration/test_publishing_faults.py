"""Publishers that are killed at any of their requests, and a PACS whose disk is full, leave each object once in it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, update

from tests.faults.disks import small_disk
from tests.services.dicom_objects import Exposure, make_photograph
from tests.services.dicom_validators import validate_report, why_no_pixelmed
from tests.services.orthanc import PASSWORD, USER, Orthanc
from tests.services.orthanc import why_unavailable as why_no_orthanc
from tests.services.publisher_process import start_publisher
from tests.services.stow_proxy import StowProxy, stow_proxy
from tests.unit.producer.ledger_rows import MODEL, add_model, grade, make_run
from worker.core.manifests.image_reference import ImageReference
from worker.core.settings import Settings
from worker.core.uris import InstancePath, dicomweb_uri
from worker.core.vocabulary import Eye, PublicationKind, PublicationState
from worker.ledger.database import connect, epoch_now, read_transaction, write_transaction
from worker.ledger.outbox_schema import outbox
from worker.ledger.status import read_progress
from worker.publishing.passes import publish_all, publish_run
from worker.publishing.publisher import MAX_REFUSALS, PublicationResult

pytestmark = pytest.mark.slow

SAMPLE = (Path(__file__).parents[2] / "producer" / "demo" / "samples" / "IDRiD_001.jpg").read_bytes()
PHOTOGRAPH = Exposure(name="right")
REPORT_CLASS, OVERLAY_CLASS = "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.7"
MAX_REQUESTS = 40
DISK_MB = 16


@pytest.fixture
def ledger(sqlite_url: str, folder: Path, make_settings: Callable[..., Settings]) -> Iterator[Engine]:
    """A ledger with a graded photograph that no publisher knows yet."""
    engine = connect(make_settings(database_url=sqlite_url))
    add_model(engine)
    path = InstancePath(PHOTOGRAPH.study_uid, PHOTOGRAPH.series_uid, PHOTOGRAPH.instance_uid)
    reference = ImageReference(dicomweb_uri(path), PHOTOGRAPH.instance_uid, eye=Eye.RIGHT)
    run = make_run(engine, "night", [reference])
    key = f"night/{MODEL}/right.jpg"
    (folder / key).parent.mkdir(parents=True)
    (folder / key).write_bytes(SAMPLE)
    grade(engine, run, PHOTOGRAPH.instance_uid, 2, overlay_key=key)
    yield engine
    engine.dispose()


@pytest.fixture
def proxy(pacs: Orthanc) -> Iterator[StowProxy]:
    with stow_proxy(pacs.port) as proxy:
        yield proxy


def environment(sqlite_url: str, folder: Path, port: int) -> dict[str, str]:
    return {
        "FUNDUS_DATABASE_URL": sqlite_url,
        "FUNDUS_STORAGE_URL": folder.as_uri(),
        "FUNDUS_PUBLISH": "sr,overlay",
        "FUNDUS_DICOMWEB_URL": f"http://127.0.0.1:{port}/dicom-web",
        "FUNDUS_DICOMWEB_USER": USER,
        "FUNDUS_DICOMWEB_PASSWORD": PASSWORD,
    }


def restart(ledger: Engine) -> None:
    """As if the lease of the killed publisher had ended, and it were its first attempt."""
    with write_transaction(ledger) as connection:
        connection.execute(
            update(outbox).where(outbox.c.state == PublicationState.PENDING).values(due_at=epoch_now() - 1, attempts=0)
        )


def forget(pacs: Orthanc, ledger: Engine) -> None:
    for one in pacs.instances():
        pacs.delete(one.instance)
    pacs.add(make_photograph(SAMPLE, PHOTOGRAPH))
    with write_transaction(ledger) as connection:
        connection.execute(outbox.delete())


def classes(pacs: Orthanc) -> list[str]:
    query = {"Level": "Instance", "Query": {}, "Expand": False}
    found = pacs.client.post("/tools/find", json=query).raise_for_status().json()
    texts = [pacs.client.get(f"/instances/{name}/metadata/SopClassUid").text.strip('"') for name in found]
    return sorted(text for text in texts if text in (REPORT_CLASS, OVERLAY_CLASS))


def test_publisher_killed_at_each_request_leaves_each_object_once(
    pacs: Orthanc, ledger: Engine, proxy: StowProxy, sqlite_url: str, folder: Path
) -> None:
    variables = environment(sqlite_url, folder, proxy.port)
    killed = 0
    for number in range(1, MAX_REQUESTS):
        forget(pacs, ledger)
        stored_before = proxy.stored
        proxy.hold(number)
        publisher = start_publisher("night", variables)
        while publisher.is_alive() and not proxy.held.wait(0.2):
            pass
        was_held = proxy.held.is_set()
        if was_held:
            publisher.kill()
        publisher.join()
        proxy.hold(None)
        proxy.release.set()
        if was_held:
            killed += 1
            restart(ledger)
            second = start_publisher("night", variables)
            second.join()
            assert second.exitcode == 0
        assert classes(pacs) == [OVERLAY_CLASS, REPORT_CLASS], f"killed at request {number}"
        with read_transaction(ledger) as connection:
            assert set(connection.scalars(select(outbox.c.state))) == {PublicationState.PUBLISHED}
        assert proxy.stored - stored_before == 2, f"killed at request {number}"
        if not was_held:
            break
    assert killed >= 8


def test_disk_full_under_the_pacs_loses_no_object(
    ledger: Engine, sqlite_url: str, folder: Path, tmp_path: Path, make_settings: Callable[..., Settings]
) -> None:
    if reason := why_no_orthanc():
        pytest.skip(reason)
    with small_disk(tmp_path / "pacs", DISK_MB) as disk:
        archive = Orthanc(disk.folder)
        archive.launch()
        try:
            archive.wait()
            archive.add(make_photograph(SAMPLE, PHOTOGRAPH))
            credentials = {"dicomweb_user": USER, "dicomweb_password": PASSWORD}
            settings = make_settings(
                database_url=sqlite_url, publish="sr,overlay", dicomweb_url=archive.url, **credentials
            )
            disk.fill()
            assert publish_run(settings, "night").count(PublicationResult.POSTPONED) == 1
            for _ in range(MAX_REFUSALS + 2):
                restart(ledger)
                assert publish_all(settings).count(PublicationResult.POSTPONED) == 1
            assert classes(archive) == []
            progress = read_progress(ledger, "night")
            assert progress.publications[PublicationKind.OVERLAY] == {PublicationState.PENDING: 1}
            assert progress.publication_errors == {"storage_refused": 1}
            disk.empty()
            restart(ledger)
            publish_all(settings)
            assert classes(archive) == [OVERLAY_CLASS, REPORT_CLASS]
            assert read_progress(ledger, "night").publication_errors == {}
        finally:
            archive.stop()


@pytest.mark.skipif(why_no_pixelmed() is not None, reason=str(why_no_pixelmed()))
def test_reports_are_valid_for_the_validator_of_pixelmed(
    pacs: Orthanc, ledger: Engine, sqlite_url: str, folder: Path, tmp_path: Path
) -> None:
    forget(pacs, ledger)
    publisher = start_publisher("night", environment(sqlite_url, folder, pacs.port))
    publisher.join()
    assert publisher.exitcode == 0
    (report,) = [
        one.instance for one in pacs.instances() if pacs.read(one.instance).find(REPORT_CLASS.encode(), 0, 400) > 0
    ]
    (tmp_path / "report.dcm").write_bytes(pacs.read(report))
    said = validate_report(tmp_path / "report.dcm")
    assert "Found Comprehensive3DSR IOD" in said
    assert "Root Template Validation Complete" in said
    assert "IOD validation complete" in said
    assert "Error" not in said
