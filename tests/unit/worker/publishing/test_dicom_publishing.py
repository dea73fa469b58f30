"""Reports and overlays in a real PACS: one of each image, whatever the PACS answers and wherever the photograph is."""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation
from sqlalchemy import Engine, insert, select, update
from structlog.testing import capture_logs

from tests.services.dicom_objects import Exposure, make_photograph
from tests.services.dicom_validators import DCIODVFY, find_dciodvfy_errors
from tests.services.orthanc import Orthanc
from tests.services.stow_proxy import StoreFault, StowProxy, stow_proxy
from tests.unit.producer.ledger_rows import MODEL, NOON, add_model, change, fail, grade, make_run
from tests.unit.worker.console.accounts_and_runs import add_session_user
from worker.console.sessions import SessionUser
from worker.console.withdrawals import withdraw_decision
from worker.core.dicom.instance_header import read_instance_header
from worker.core.dicom.selection import check_instance_kind
from worker.core.errors import NotAPhotographError, PublicationError, SettingsError
from worker.core.manifests.image_reference import ImageReference
from worker.core.settings import Settings
from worker.core.uris import InstancePath, dicomweb_uri
from worker.core.vocabulary import Eye, PublicationState, Role, Status
from worker.ledger.database import connect, epoch_now, read_transaction, write_transaction
from worker.ledger.outbox import enqueue_decision
from worker.ledger.outbox_schema import outbox
from worker.ledger.review_schema import decisions, reviews
from worker.ledger.runs import Run
from worker.ledger.schema import metadata
from worker.publishing.passes import preview, publish_all, publish_run, write_objects
from worker.publishing.publisher import PublicationResult

SAMPLE = (Path(__file__).parents[4] / "producer" / "demo" / "samples" / "IDRiD_001.jpg").read_bytes()
RIGHT, LEFT = Exposure(name="right"), Exposure(name="left", laterality="L")
REPORT_CLASS, OVERLAY_CLASS = "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.7"
PUBLISHED, REFUSED, PENDING = PublicationState.PUBLISHED, PublicationState.REFUSED, PublicationState.PENDING


@pytest.fixture
def make(sqlite_url: str, folder: Path, make_settings: Callable[..., Settings]) -> Callable[..., Settings]:
    def make_publishing(**values: object) -> Settings:
        return make_settings(**{"database_url": sqlite_url, "publish": "sr,overlay", "time_zone": "UTC"} | values)

    return make_publishing


@pytest.fixture
def ledger(sqlite_url: str, make: Callable[..., Settings]) -> Iterator[Engine]:
    engine = connect(make())
    yield engine
    engine.dispose()


@pytest.fixture
def run(ledger: Engine, folder: Path, pacs: Orthanc) -> Run:
    """A graded right eye and an ungradable left one, in the PACS and in the ledger."""
    pacs.add(make_photograph(SAMPLE, RIGHT), make_photograph(SAMPLE, LEFT))
    add_model(ledger)
    run = make_run(ledger, "night", [refer(RIGHT, Eye.RIGHT), refer(LEFT, Eye.LEFT)])
    key = f"night/{MODEL}/right.jpg"
    (folder / key).parent.mkdir(parents=True)
    (folder / key).write_bytes(SAMPLE)
    grade(ledger, run, RIGHT.instance_uid, 2, overlay_key=key)
    fail(ledger, run, LEFT.instance_uid, "blurred", Status.UNGRADABLE)
    change(ledger, run, LEFT.instance_uid, model_id=MODEL)
    return run


@pytest.fixture
def proxy(pacs: Orthanc, monkeypatch: pytest.MonkeyPatch) -> Iterator[StowProxy]:
    with stow_proxy(pacs.port) as proxy:
        monkeypatch.setenv("FUNDUS_DICOMWEB_URL", f"http://127.0.0.1:{proxy.port}/dicom-web")
        yield proxy


def refer(exposure: Exposure, eye: Eye) -> ImageReference:
    path = InstancePath(exposure.study_uid, exposure.series_uid, exposure.instance_uid)
    return ImageReference(dicomweb_uri(path), exposure.instance_uid, eye=eye)


def decide(ledger: Engine, run: Run, exposure: Exposure, reader: str, given: int | None) -> int:
    add_session_user(ledger, reader)
    row = {"run": run.name, "reader": reader, "kind": "reading", "grade": given, "reason": "", "version": "1"}
    review = {"run_id": run.run_id, "image_id": exposure.instance_uid, "state": "read", "grade": given}
    with write_transaction(ledger) as connection:
        number = connection.execute(
            insert(decisions)
            .values(run_id=run.run_id, image_id=exposure.instance_uid, seen_status="graded", at=NOON, **row)
            .returning(decisions.c.decision_id)
        ).scalar_one()
        connection.execute(insert(reviews).values(**review))
        enqueue_decision(connection, run.run_id, exposure.instance_uid, number, ())
    return int(number)


def withdraw(ledger: Engine, run: Run, exposure: Exposure, reader: str, decision_id: int) -> None:
    user = SessionUser(reader, Role.GRADER, "token")
    withdraw_decision(ledger, run.name, exposure.instance_uid, user, decision_id, default_readers=1)


def make_due(ledger: Engine) -> None:
    with write_transaction(ledger) as connection:
        connection.execute(update(outbox).values(due_at=epoch_now() - 1))


def states(ledger: Engine) -> list[tuple[str, str, str | None]]:
    with read_transaction(ledger) as connection:
        query = select(outbox.c.kind, outbox.c.state, outbox.c.error_code).order_by(outbox.c.outbox_id)
        return [tuple(row) for row in connection.execute(query)]


def stored(pacs: Orthanc, sop_class: str) -> list[Dataset]:
    """The objects of a class, however often the PACS has each, by their time of reading."""
    found = [dcmread(BytesIO(pacs.read(one.instance))) for one in pacs.instances()]
    return sorted(
        (one for one in found if one.SOPClassUID == sop_class), key=lambda one: (one.InstanceNumber, one.SeriesNumber)
    )


def number_stored(pacs: Orthanc) -> tuple[int, int]:
    return len(stored(pacs, REPORT_CLASS)), len(stored(pacs, OVERLAY_CLASS))


def find_items(dataset: Dataset, code: str) -> list[Dataset]:
    """The content items with this concept name, at any depth."""
    found = []
    for item in dataset.get("ContentSequence", []):
        name = item.get("ConceptNameCodeSequence")
        found += [item] if name and name[0].CodeValue == code else []
        found += find_items(item, code)
    return found


def code_of(dataset: Dataset, name: str) -> str:
    (item,) = find_items(dataset, name)
    return str(item.ConceptCodeSequence[0].CodeValue)


def test_pacs_has_one_report_of_each_image_and_one_overlay_of_each_graded_one(
    pacs: Orthanc, run: Run, ledger: Engine, make: Callable[..., Settings], tmp_path: Path
) -> None:
    result = publish_run(make(), "night")
    assert result.describe()["published"] == {"overlay": 1, "sr": 2}
    assert publish_run(make(), "night").counts == publish_all(make()).counts == {}
    assert states(ledger) == [("overlay", PUBLISHED, None), ("sr", PUBLISHED, None), ("sr", PUBLISHED, None)]
    assert number_stored(pacs) == (2, 1)
    (graded, ungradable), (overlay,) = stored(pacs, REPORT_CLASS), stored(pacs, OVERLAY_CLASS)

    for one in (graded, ungradable, overlay):
        assert (one.StudyInstanceUID, one.PatientID, one.PatientName) == (RIGHT.study_uid, "TEST001", "Test^Fundus")
        assert (one.ContentDate, one.ContentTime, one.TimezoneOffsetFromUTC) == ("20261122", "120000", "+0000")
        assert "NOT FOR CLINICAL USE" in one.SeriesDescription
        assert one.preamble == bytes(128)
        with pytest.raises(NotAPhotographError) as refused:
            check_instance_kind(read_instance_header(one.to_json_dict()), ())
        assert refused.value.code == "dicom_own_output"
    assert (graded.PreliminaryFlag, graded.VerificationFlag) == ("PRELIMINARY", "UNVERIFIED")
    assert code_of(graded, "71491-5") == "LA18645-4"
    assert code_of(graded, "REFERABLE") == "373066001"
    assert [find_items(graded, f"P{k}")[0].MeasuredValueSequence[0].NumericValue for k in (1, 2, 3, 4)] == [
        0.9, 0.9, 0.1, 0.1,
    ]  # fmt: skip
    (source,), (explanation,) = find_items(graded, "121112"), find_items(graded, "130401")
    assert source.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == RIGHT.instance_uid
    assert explanation.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == overlay.SOPInstanceUID
    assert code_of(ungradable, "111101") == "BLURRED"
    assert find_items(ungradable, "71490-7") == []
    assert (overlay.BurnedInAnnotation, overlay.ImageLaterality) == ("YES", "R")
    assert overlay.SourceImageSequence[0].ReferencedSOPInstanceUID == RIGHT.instance_uid
    (referenced,) = overlay.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert {element.keyword for element in referenced} == {"ReferencedSOPClassUID", "ReferencedSOPInstanceUID"}
    for number, one in enumerate((graded, ungradable, overlay)):
        one.save_as(tmp_path / f"{number}.dcm")
        assert DCIODVFY is None or find_dciodvfy_errors(tmp_path / f"{number}.dcm") == []


def test_reading_is_a_new_report_that_names_its_predecessor_and_the_reader(
    pacs: Orthanc, run: Run, ledger: Engine, make: Callable[..., Settings], tmp_path: Path
) -> None:
    publish_run(make(), "night")
    decide(ledger, run, RIGHT, "anna", 3)
    publish_run(make(publish_organisation="Eye Clinic"), "night")
    model, reading = [one for one in stored(pacs, REPORT_CLASS) if one.InstanceNumber == 1]
    previous = reading.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert previous.SeriesInstanceUID == model.SeriesInstanceUID
    assert previous.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == model.SOPInstanceUID
    assert (code_of(reading, "71491-5"), code_of(model, "71491-5")) == ("LA18646-2", "LA18645-4")
    assert find_items(reading, "121008")[0].PersonName == "anna^"
    assert (reading.PreliminaryFlag, reading.VerificationFlag) == ("FINAL", "VERIFIED")
    assert "NOT FOR CLINICAL USE" not in reading.SeriesDescription
    assert find_items(reading, "P1") == find_items(reading, "111001") == []
    reading.save_as(tmp_path / "reading.dcm")
    assert DCIODVFY is None or find_dciodvfy_errors(tmp_path / "reading.dcm") == []


def test_withdrawn_reading_is_retracted_by_a_new_report(
    pacs: Orthanc, run: Run, ledger: Engine, make: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = make(publish_organisation="Eye Clinic")
    decision = decide(ledger, run, RIGHT, "anna", 3)
    publish_run(settings, "night")
    # Stored, but its publisher died before it recorded so.
    with write_transaction(ledger) as connection:
        connection.execute(
            update(outbox).where(outbox.c.decision_id == decision).values(state=PENDING, published_at=None)
        )
    make_due(ledger)
    withdraw(ledger, run, RIGHT, "anna", decision)
    assert publish_run(settings, "night").describe()["published"] == {"sr": 1}
    model, *of_person = [one for one in stored(pacs, REPORT_CLASS) if one.InstanceNumber == 1]
    reading, retraction = sorted(of_person, key=lambda one: len(find_items(one, "READING")))
    assert reading.SeriesInstanceUID == retraction.SeriesInstanceUID != model.SeriesInstanceUID
    assert reading.SeriesDescription == retraction.SeriesDescription
    (previous,) = [
        one.ReferencedSOPInstanceUID
        for of_study in retraction.PredecessorDocumentsSequence
        for of_series in of_study.ReferencedSeriesSequence
        for one in of_series.ReferencedSOPSequence
        if one.ReferencedSOPInstanceUID != model.SOPInstanceUID
    ]
    assert previous == reading.SOPInstanceUID
    assert code_of(retraction, "READING") == "WITHDRAWN"
    assert code_of(retraction, "71491-5") == code_of(model, "71491-5") == "LA18645-4"
    assert (reading.PreliminaryFlag, reading.VerificationFlag) == ("FINAL", "VERIFIED")
    assert (retraction.PreliminaryFlag, retraction.VerificationFlag) == ("PRELIMINARY", "UNVERIFIED")
    retraction.save_as(tmp_path / "retraction.dcm")
    assert DCIODVFY is None or find_dciodvfy_errors(tmp_path / "retraction.dcm") == []
    assert publish_run(settings, "night").counts == {}


@pytest.mark.parametrize("fault", ["lost answer", "409 after storing", "409", "202 with a failed sequence", "503"])
def test_whatever_the_pacs_answers_each_object_is_stored_once(
    pacs: Orthanc, run: Run, ledger: Engine, proxy: StowProxy, make: Callable[..., Settings], fault: StoreFault
) -> None:
    proxy.inject(fault, times=20)
    result = publish_run(make(), "night")
    is_stored = fault in ("lost answer", "409 after storing")
    assert result.count(PublicationResult.POSTPONED) == (0 if is_stored else 2)
    assert number_stored(pacs) == ((2, 1) if is_stored else (0, 0))
    proxy.inject(None)
    publish_run(make(), "night")
    assert number_stored(pacs) == (2, 1)
    assert {state for _, state, _ in states(ledger)} == {PUBLISHED}
    assert proxy.stored == 3


def test_object_that_was_stored_but_not_recorded_is_not_sent_again(
    pacs: Orthanc, run: Run, ledger: Engine, proxy: StowProxy, make: Callable[..., Settings]
) -> None:
    publish_run(make(), "night")
    before = {one.instance: pacs.read(one.instance) for one in pacs.instances()}
    with write_transaction(ledger) as connection:
        connection.execute(update(outbox).values(state=PENDING, published_at=None, due_at=epoch_now() - 1))
    assert publish_run(make(), "night").count(PublicationResult.PUBLISHED) == 3
    assert proxy.stored == 3
    assert {one.instance: pacs.read(one.instance) for one in pacs.instances()} == before


def test_photograph_that_is_gone_is_refused_and_nothing_is_stored(
    pacs: Orthanc, run: Run, ledger: Engine, make: Callable[..., Settings]
) -> None:
    pacs.delete(RIGHT.instance_uid)
    publish_run(make(), "night")
    assert states(ledger) == [
        ("overlay", REFUSED, "photograph_gone"), ("sr", REFUSED, "photograph_gone"), ("sr", PUBLISHED, None),
    ]  # fmt: skip
    assert number_stored(pacs) == (1, 0)


def test_objects_follow_a_photograph_to_another_study_and_patient(
    pacs: Orthanc, run: Run, ledger: Engine, make: Callable[..., Settings]
) -> None:
    pacs.delete(RIGHT.instance_uid)
    merged = Exposure(study="merged", patient="MERGED", name="right")
    pacs.add(make_photograph(SAMPLE, merged, SOPInstanceUID=RIGHT.instance_uid))
    publish_run(make(), "night")
    report, (overlay,) = stored(pacs, REPORT_CLASS)[0], stored(pacs, OVERLAY_CLASS)
    for one in (report, overlay):
        assert (one.StudyInstanceUID, one.PatientID) == (merged.study_uid, "MERGED")
    assert number_stored(pacs) == (2, 1)


@pytest.mark.parametrize(("attributes", "graded"), [({"Laterality": "L"}, Eye.UNKNOWN), ({}, Eye.LEFT)])
def test_photograph_of_a_doubtful_eye_is_refused(
    pacs: Orthanc, ledger: Engine, make: Callable[..., Settings], attributes: dict[str, str], graded: Eye
) -> None:
    pacs.add(make_photograph(SAMPLE, RIGHT, **attributes))
    add_model(ledger)
    run = make_run(ledger, "night", [refer(RIGHT, graded)])
    fail(ledger, run, RIGHT.instance_uid, "blurred", Status.UNGRADABLE)
    publish_run(make(publish="sr"), "night")
    assert states(ledger) == [("sr", REFUSED, "dicom_laterality")]
    assert number_stored(pacs) == (0, 0)


def test_preview_and_files_change_nothing(
    pacs: Orthanc, run: Run, ledger: Engine, make: Callable[..., Settings], tmp_path: Path
) -> None:
    decide(ledger, run, RIGHT, "anna", 3)
    assert [(one.outcome.publication.kind, one.state) for one in preview(make(), "night")] == [
        ("overlay", PENDING), ("sr", PENDING), ("sr", PENDING), ("sr", PENDING),
    ]  # fmt: skip
    pacs.delete(LEFT.instance_uid)
    paths = list(write_objects(make(), "night", tmp_path / "out"))
    files = [path for path in paths if isinstance(path, Path)]
    (refused,) = [path for path in paths if isinstance(path, PublicationError)]
    assert refused.code == "photograph_gone"
    assert {path.stat().st_mode & 0o777 for path in files} == {0o640}
    overlay, model, reading = [dcmread(path) for path in files]
    assert find_items(model, "130401")[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == overlay.SOPInstanceUID
    series = model.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert {one.SeriesInstanceUID for one in series} == {RIGHT.series_uid, overlay.SeriesInstanceUID}
    previous = reading.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert previous.SeriesInstanceUID == model.SeriesInstanceUID
    assert states(ledger) == []
    assert number_stored(pacs) == (0, 0)
    publish_run(make(), "night")
    assert stored(pacs, OVERLAY_CLASS)[0].SOPInstanceUID == overlay.SOPInstanceUID


def test_nothing_is_published_unless_it_is_set(run: Run, make: Callable[..., Settings]) -> None:
    with pytest.raises(SettingsError, match="FUNDUS_PUBLISH is not set"):
        publish_run(make(publish=""), "night")


MARK = "MARKED"
IDENTIFIERS = {
    "PatientName": "MARKEDNAME^Anna",
    "PatientID": "MARKEDID",
    "IssuerOfPatientID": "MARKEDISSUER",
    "PatientComments": "MARKEDCOMMENT",
    "AccessionNumber": "MARKEDACC",
    "ReferringPhysicianName": "MARKEDDOCTOR",
    "StudyDescription": "MARKEDSTUDY",
    "InstitutionName": "MARKEDPLACE",
    "OtherPatientIDs": "MARKEDOTHER",
    "OperatorsName": "MARKEDOPERATOR",
    "StationName": "MARKEDSTATION",
}
INVALID = {"PatientSex": "MARKEDSEX", "StudyTime": "MARKEDTIME"}


def test_values_of_the_header_reach_the_pacs_alone(
    pacs: Orthanc,
    ledger: Engine,
    folder: Path,
    proxy: StowProxy,
    make: Callable[..., Settings],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
) -> None:
    """Places searched: ledger (tables and file), log, warnings, output, errors; also of an object that is refused."""
    caplog.set_level("DEBUG")
    bad = Exposure(name="bad", study="bad")
    pacs.add(make_photograph(SAMPLE, RIGHT, **IDENTIFIERS))
    with disable_value_validation():
        pacs.add(make_photograph(SAMPLE, bad, **IDENTIFIERS, **INVALID))
    add_model(ledger)
    run = make_run(ledger, "night", [refer(RIGHT, Eye.RIGHT), refer(bad, Eye.RIGHT)])
    key = f"night/{MODEL}/right.jpg"
    (folder / key).parent.mkdir(parents=True)
    (folder / key).write_bytes(SAMPLE)
    for one in (RIGHT, bad):
        grade(ledger, run, one.instance_uid, 2, overlay_key=key)
    with capture_logs() as logs:
        proxy.inject("409", times=2)
        publish_run(make(), "night")
        proxy.inject(None)
        publish_run(make(), "night")
    assert stored(pacs, REPORT_CLASS)[0].PatientName == "MARKEDNAME^Anna"
    with read_transaction(ledger) as connection:
        tables = {table.name: connection.execute(select(table)).all() for table in metadata.sorted_tables}
    with closing(ledger.raw_connection()) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    captured = capfd.readouterr()
    warnings = [str(one.message) for one in recwarn]
    searched = [str(tables), str(logs), caplog.text, captured.out, captured.err, *warnings, str(states(ledger))]
    assert len(tables["outbox"]) == 4
    assert not [text[max(text.find(MARK) - 200, 0) :][:400] for text in searched if MARK in text]
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".jpg"]
    assert any(path.suffix == ".db" for path in files)
    assert not [path for path in files if MARK.encode() in path.read_bytes()]


def test_time_is_in_the_zone_of_the_photograph(pacs: Orthanc, ledger: Engine, make: Callable[..., Settings]) -> None:
    pacs.add(make_photograph(SAMPLE, LEFT, TimezoneOffsetFromUTC="-0530"))
    add_model(ledger)
    run = make_run(ledger, "night", [refer(LEFT, Eye.LEFT)])
    fail(ledger, run, LEFT.instance_uid, "blurred", Status.UNGRADABLE, at=datetime(2026, 11, 22, 3, tzinfo=UTC))
    publish_run(make(publish="sr"), "night")
    (report,) = stored(pacs, REPORT_CLASS)
    assert find_items(report, "121015")[0].TextValue == "unknown"
    assert (report.ContentDate, report.ContentTime, report.TimezoneOffsetFromUTC) == ("20261121", "213000", "-0530")
