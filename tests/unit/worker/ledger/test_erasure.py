"""What the erasure of a patient deletes, what it refuses and what it keeps; on both databases and both stores."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, select, text, update

from producer.runs.lifecycle import seal_run
from tests.unit.producer.ledger_rows import MODEL, add_model, grade, lease, make_run, rows_of
from tests.unit.worker.console.accounts_and_runs import add_session_user
from worker.console.decisions import ReviewForm, record_decision
from worker.core.errors import OverlapError, RunError, StorageError, UsageError
from worker.core.manifests.admission import hash_patient_id
from worker.core.manifests.image_reference import ImageReference
from worker.core.settings import Settings
from worker.core.storage.object_store import ObjectStore
from worker.core.storage.storage import Storage
from worker.core.vocabulary import PublicationKind, ReviewState
from worker.ledger.audit_log import read_audit_log
from worker.ledger.database import read_transaction, write_transaction
from worker.ledger.erasure import ErasureResult, erase_patient
from worker.ledger.export import export_run
from worker.ledger.export_formats import ExportFormat
from worker.ledger.legal_hold import set_legal_hold
from worker.ledger.outbox import enqueue_outcomes, lease_publications, release_publications
from worker.ledger.outbox_schema import outbox
from worker.ledger.report_leases import ReportLease, finish_report, lease_report, request_report
from worker.ledger.review_schema import decisions, reviews
from worker.ledger.runs import Run, find_run
from worker.ledger.schema import images, metadata, runs

PATIENT = "Smith-1950-03-07"
KEY = SecretStr("k" * 32)


@pytest.fixture
def settings(engine: Engine, store: ObjectStore, make_settings: Callable[..., Settings], tmp_path: Path) -> Settings:
    """Settings of the ledger that `engine` uses and of `store`."""
    url = engine.url.render_as_string(hide_password=False)
    return make_settings(database_url=url, reports_dir=tmp_path / "reports")


def add_run(engine: Engine, store: ObjectStore, name: str, patients: dict[str, str]) -> Run:
    """Create a finished run of graded images, by image id and patient id, with overlays and a written report."""
    run = make_run(engine, name, [ImageReference(f"file:///{i}.jpg", i, patient) for i, patient in patients.items()])
    for image_id in patients:
        grade(engine, run, image_id, 2)
        store.put(f"{name}/{MODEL}/{image_id}.png", b"overlay", content_type="image/png", metadata={})
    seal_run(engine, run)
    finish_report(engine, put_report(engine, store, name), out=f"s3://store/{name}/report/index.html")
    return find_run(engine, name)


def put_report(engine: Engine, store: ObjectStore, name: str) -> ReportLease:
    lease = request_report(engine, name, lease_s=60)
    store.put(f"{lease.prefix}index.html", b"pages", content_type="text/html", metadata={})
    return lease


def decide(engine: Engine, run: str, image_id: str, reader: str, reason: str) -> None:
    user = add_session_user(engine, reader)
    form = ReviewForm(grade=3, reason=reason, shown=f"graded:2:{MODEL}", last_seen=0)
    record_decision(engine, run, image_id, user, form, default_readers=1)


@pytest.fixture
def night(engine: Engine, store: ObjectStore) -> Run:
    """Two runs: `night` with two images of the patient and one of another, and `again` with one of the same images."""
    add_model(engine)
    night = add_run(engine, store, "night", {"a": PATIENT, "b": PATIENT, "c": "other"})
    add_run(engine, store, "again", {"a": PATIENT})
    decide(engine, "night", "a", "anna", "same as Mr Smith's left eye")
    decide(engine, "night", "c", "ben", "haemorrhage")
    return night


def exists(store: ObjectStore, *keys: str) -> list[bool]:
    def one(key: str) -> bool:
        try:
            store.get(key)
        except KeyError:
            return False
        return True

    return [one(key) for key in keys]


def dump(engine: Engine) -> str:
    """Return all rows of the ledger as text."""
    with read_transaction(engine) as connection:
        return "\n".join(
            repr(connection.execute(text(f"SELECT * FROM {name}")).all()) for name in sorted(metadata.tables)
        )


def actions(engine: Engine) -> Sequence[tuple[str, str | None, object]]:
    entries = read_audit_log(engine, run=None, last=100)
    return [(e["action"], e["run"], e["details"]) for e in entries if e["action"].startswith("erase")]


def test_patient_is_erased_from_all_runs_and_all_else_stays(
    engine: Engine, night: Run, store: ObjectStore, settings: Settings
) -> None:
    (settings.reports_dir / "night").mkdir(parents=True)
    (settings.reports_dir / "unrelated").mkdir()

    erased = erase_patient(settings, PATIENT)

    assert erased == ErasureResult(images=2, outcomes=3, overlays=3, reasons=1, runs=("again", "night"), exports=())
    assert (list(rows_of(engine, night)), list(rows_of(engine, find_run(engine, "again")))) == (["c"], [])
    assert PATIENT not in dump(engine)
    assert "Smith" not in dump(engine)
    overlays = [f"{place}.png" for place in (f"night/{MODEL}/a", f"night/{MODEL}/b", f"again/{MODEL}/a")]
    assert exists(store, *overlays, f"night/{MODEL}/c.png") == [False, False, False, True]
    assert exists(store, "night/report/index.html", "again/report/index.html") == [False, False]
    assert [path.name for path in settings.reports_dir.iterdir()] == ["unrelated"]


def test_decision_keeps_its_grade_without_the_reason(engine: Engine, night: Run, settings: Settings) -> None:
    erase_patient(settings, PATIENT)
    with read_transaction(engine) as connection:
        query = select(decisions.c.image_id, decisions.c.grade, decisions.c.reason).order_by(decisions.c.decision_id)
        assert connection.execute(query).all() == [("a", 3, ""), ("c", 3, "haemorrhage")]
        assert connection.execute(select(reviews.c.image_id, reviews.c.state)).all() == [("c", ReviewState.READ)]


def test_audit_log_has_the_erasure_without_the_patient(engine: Engine, night: Run, settings: Settings) -> None:
    erase_patient(settings, PATIENT)
    assert actions(engine) == [
        ("erase", "again", {"images": 1}),
        ("erase", "night", {"images": 2}),
        ("erased", None, {"images": 2, "outcomes": 3, "reasons": 1}),
    ]


def test_reports_are_written_again(engine: Engine, night: Run, settings: Settings) -> None:
    erase_patient(settings, PATIENT)
    assert lease_report(engine, night.run_id, lease_s=60) is not None


def test_patient_is_found_by_pseudonym_and_by_the_id_before_it(
    engine: Engine, store: ObjectStore, settings: Settings
) -> None:
    add_model(engine)
    pseudonym = hash_patient_id(PATIENT, KEY)
    add_run(engine, store, "night", {"a": PATIENT, "b": pseudonym, "c": "other"})
    keyed = settings.model_copy(update={"patient_key": KEY})
    assert erase_patient(keyed, PATIENT, dry_run=True).images == 2
    assert erase_patient(settings, pseudonym, dry_run=True).images == 1


def test_unknown_patient_is_refused_without_repeating_the_id(engine: Engine, night: Run, settings: Settings) -> None:
    with pytest.raises(UsageError, match="no image of this patient") as caught:
        erase_patient(settings, "Jones")
    assert "Jones" not in caught.value.detail
    assert caught.value.code == "patient_unknown"


def test_dry_run_counts_and_changes_nothing(engine: Engine, night: Run, settings: Settings) -> None:
    before = dump(engine)
    counted = erase_patient(settings, PATIENT, dry_run=True)
    assert dump(engine) == before
    assert erase_patient(settings, PATIENT) == counted


def refuses(engine: Engine, settings: Settings, error: type[Exception], match: str) -> None:
    before = dump(engine).count(PATIENT)
    with pytest.raises(error, match=match):
        erase_patient(settings, PATIENT)
    assert actions(engine) == []
    assert dump(engine).count(PATIENT) == before


def test_held_run_is_refused(engine: Engine, night: Run, settings: Settings) -> None:
    set_legal_hold(engine, "again")
    refuses(engine, settings, RunError, "run again contains the patient and is under a legal hold")


def test_image_that_a_worker_grades_is_refused_until_it_is_settled(
    engine: Engine, night: Run, settings: Settings
) -> None:
    going = make_run(engine, "going", [ImageReference("file:///a.jpg", "a", PATIENT)])
    lease(engine, going, "a", seconds=60)
    refuses(engine, settings, OverlapError, "workers are grading 1 images of the patient")
    lease(engine, going, "a", seconds=-1)
    erase_patient(settings, PATIENT)
    assert rows_of(engine, going) == {}


def test_report_that_is_being_written_is_refused(
    engine: Engine, night: Run, store: ObjectStore, settings: Settings
) -> None:
    put_report(engine, store, "night")
    refuses(engine, settings, OverlapError, "the report of run night is being written")


def test_result_that_is_being_published_is_refused_and_a_pending_one_is_withdrawn(
    engine: Engine, store: ObjectStore, settings: Settings
) -> None:
    uid = "1.2.826.0.1.3680043.8.498.1"
    add_model(engine)
    night = add_run(engine, store, "night", {uid: PATIENT})
    with write_transaction(engine) as connection:
        enqueue_outcomes(connection, night.run_id, [uid], (PublicationKind.OVERLAY, PublicationKind.SR))
    held = lease_publications(engine, (PublicationKind.OVERLAY,), limit=1, lease_s=60, max_attempts=3)
    refuses(engine, settings, OverlapError, "results of the patient are being published")
    release_publications(engine, held)
    erase_patient(settings, PATIENT)
    with read_transaction(engine) as connection:
        assert connection.execute(select(outbox)).all() == []


def test_overlay_that_a_worker_uploaded_before_it_died_is_deleted(
    engine: Engine, night: Run, store: ObjectStore, settings: Settings
) -> None:
    going = make_run(engine, "going", [ImageReference("file:///a.jpg", "a", PATIENT)])
    lease(engine, going, "a", seconds=-1)
    pin_model(engine, going)
    store.put(f"going/{MODEL}/a.jpg", b"overlay", content_type="image/jpeg", metadata={})
    erase_patient(settings, PATIENT)
    assert exists(store, f"going/{MODEL}/a.jpg") == [False]


def pin_model(engine: Engine, run: Run) -> None:
    with write_transaction(engine) as connection:
        connection.execute(update(runs).where(runs.c.run_id == run.run_id).values(model_id=MODEL))


def test_erasure_that_the_store_interrupted_is_completed_by_the_next_call(
    engine: Engine, night: Run, store: ObjectStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StorageError("unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(type(store), "delete_prefix", fail)
        with pytest.raises(StorageError):
            erase_patient(settings, PATIENT)
    row = rows_of(engine, night)["a"]
    assert (row.overlay_key, row.retired_key) == (None, f"night/{MODEL}/a.png")
    erase_patient(settings, PATIENT)
    assert PATIENT not in dump(engine)
    assert exists(store, "night/report/index.html") == [False]


def test_image_enqueued_again_while_objects_are_deleted_is_erased_as_well(
    engine: Engine, night: Run, store: ObjectStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = iter(["late"])
    delete_prefix = type(store).delete_prefix

    def enqueue_first(self: ObjectStore, prefix: str) -> None:
        for name in again:
            make_run(engine, name, [ImageReference("file:///a.jpg", "a", PATIENT)])
        delete_prefix(self, prefix)

    monkeypatch.setattr(type(store), "delete_prefix", enqueue_first)
    erase_patient(settings, PATIENT)
    assert rows_of(engine, find_run(engine, "late")) == {}
    with read_transaction(engine) as connection:
        assert connection.scalars(select(images.c.image_id)).all() == ["c"]


def test_exports_that_may_contain_the_patient_are_listed(engine: Engine, night: Run, settings: Settings) -> None:
    out = settings.reports_dir.parent / "night.csv"
    export_run(engine, Storage(settings).overlays, night, ExportFormat.CSV, out)
    assert erase_patient(settings, PATIENT).exports == (str(out),)
