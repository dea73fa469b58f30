"""Outcomes of studies in a real PACS reach a FHIR server over HTTP: one set of resources for each study."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select, update
from structlog.testing import capture_logs

from tests.services.dicom_objects import Exposure, make_photograph
from tests.services.fhir_server import TOKEN, FhirServer, run_fhir_server
from tests.services.orthanc import Orthanc
from tests.unit.producer.ledger_rows import MODEL, add_model, change, fail, grade, make_run
from tests.unit.worker.console.accounts_and_runs import add_session_user
from worker.console.decisions import ReviewForm, record_decision
from worker.console.image_detail import read_image_detail
from worker.console.sessions import SessionUser
from worker.console.withdrawals import withdraw_decision
from worker.core.errors import SettingsError
from worker.core.manifests.image_reference import ImageReference
from worker.core.settings import Settings
from worker.core.uris import InstancePath, dicomweb_uri
from worker.core.vocabulary import Eye, PublicationKind, PublicationState, Status
from worker.ledger.database import connect, epoch_now, read_transaction, write_transaction
from worker.ledger.outbox_schema import outbox
from worker.ledger.runs import Run
from worker.ledger.schema import metadata
from worker.publishing.passes import publish_run

SAMPLE = (Path(__file__).parents[4] / "producer" / "demo" / "samples" / "retina.jpg").read_bytes()
SYSTEM = "https://clinic.example/fundus"
PATIENT, NAME = "MARKED-ID-77", "MARKED^NAME"
KINDS = ("Device", "Observation", "DiagnosticReport")
EXPOSURES = [
    Exposure(name=f"{laterality}{number}", patient=PATIENT, laterality=laterality)
    for laterality in "RL"
    for number in range(4)
]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FhirServer]:
    with run_fhir_server(tmp_path / "fhir.db") as server:
        yield server


@pytest.fixture
def settings(sqlite_url: str, pacs: Orthanc, server: FhirServer, make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(
        database_url=sqlite_url,
        publish="fhir",
        fhir_url=server.url,
        fhir_token=TOKEN,
        fhir_system=SYSTEM,
        fhir_patient_system="urn:oid:1.2.3",
    )


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Engine]:
    engine = connect(settings)
    yield engine
    engine.dispose()


@pytest.fixture
def run(ledger: Engine, pacs: Orthanc) -> Run:
    """Two eyes with four photographs each, all graded 1, in the PACS and in the ledger."""
    pacs.add(*(make_photograph(SAMPLE, one, PatientName=NAME) for one in EXPOSURES))
    add_model(ledger)
    run = make_run(ledger, "night", [_refer(one) for one in EXPOSURES])
    for one in EXPOSURES:
        grade(ledger, run, one.instance_uid, 1)
    return run


def _refer(exposure: Exposure) -> ImageReference:
    path = InstancePath(exposure.study_uid, exposure.series_uid, exposure.instance_uid)
    eye = Eye.RIGHT if exposure.laterality == "R" else Eye.LEFT
    return ImageReference(dicomweb_uri(path), exposure.instance_uid, "hash", eye)


def numbers(server: FhirServer) -> list[int]:
    return [len(server.read(kind)) for kind in KINDS]


def states(engine: Engine) -> set[tuple[str, str | None]]:
    with read_transaction(engine) as connection:
        query = select(outbox.c.state, outbox.c.error_code).where(outbox.c.kind == PublicationKind.FHIR)
        return {tuple(row) for row in connection.execute(query)}


def make_due(engine: Engine) -> None:
    with write_transaction(engine) as connection:
        connection.execute(update(outbox).values(due_at=epoch_now() - 1))


def read(engine: Engine, exposure: Exposure, given: int) -> tuple[SessionUser, int]:
    """Decide as the only reader; return the reader and the decision."""
    image = read_image_detail(engine, "night", exposure.instance_uid)
    assert image is not None
    form = ReviewForm(given, "why", image.model_result, 0)
    user = add_session_user(engine, f"reader-of-{exposure.name}")
    kinds = (PublicationKind.FHIR,)
    return user, record_decision(engine, "night", exposure.instance_uid, user, form, default_readers=1, publish=kinds)


def test_eight_photographs_of_a_study_make_one_set_of_resources(
    ledger: Engine, run: Run, server: FhirServer, settings: Settings
) -> None:
    with capture_logs() as logs:
        publish_run(settings, "night")
        publish_run(settings, "night")

    assert states(ledger) == {("published", None)}
    assert numbers(server) == [1, 2, 1]
    # Publishers run in four threads; on this server, transactions at the same time would make several resources.
    assert server.conflicts == 0
    right, left = server.read("Observation")
    assert len(right["derivedFrom"]) == len(left["derivedFrom"]) == 1 + 4
    (report,) = server.read("DiagnosticReport")
    assert report["subject"]["identifier"] == {
        "system": "urn:oid:1.2.3",
        "value": PATIENT,
        "assigner": {"display": "clinic-a"},
    }
    assert report["effectiveDateTime"] == "2026-11-28"
    assert "MARKED" not in str(logs)
    assert "MARKED" not in _dump(ledger)
    assert NAME not in str([server.read(kind) for kind in KINDS])


def _dump(engine: Engine) -> str:
    with read_transaction(engine) as connection:
        return str([connection.execute(select(table)).all() for table in metadata.sorted_tables])


def test_readers_grade_updates_the_same_resources(
    ledger: Engine, run: Run, server: FhirServer, settings: Settings
) -> None:
    publish_run(settings, "night")
    for one in EXPOSURES[:4]:
        read(ledger, one, 3 if one is EXPOSURES[0] else 0)
    publish_run(settings, "night")

    assert numbers(server) == [1, 2, 1]
    right, left = server.read("Observation")
    assert (right["status"], right["valueCodeableConcept"]["coding"][0]["code"]) == ("final", "LA18646-2")
    assert right["performer"] == [{"display": f"reader-of-{EXPOSURES[0].name}"}]
    assert left["status"] == "preliminary"
    assert server.read("DiagnosticReport")[0]["status"] == "preliminary"


def test_withdrawn_reading_makes_the_outcome_preliminary_again(
    ledger: Engine, run: Run, server: FhirServer, settings: Settings
) -> None:
    read_by = [read(ledger, one, 3) for one in EXPOSURES[:4]]
    publish_run(settings, "night")
    assert server.read("Observation")[0]["status"] == "final"
    user, decision = read_by[0]
    withdraw_decision(ledger, "night", EXPOSURES[0].instance_uid, user, decision, default_readers=1)
    publish_run(settings, "night")

    assert numbers(server) == [1, 2, 1]
    right = server.read("Observation")[0]
    assert right["status"] == "preliminary"
    assert right["method"]["text"].endswith("3 of 4 photographs read by a person; a reading was withdrawn")
    assert server.read("DiagnosticReport")[0]["status"] == "preliminary"


def test_study_is_published_again_until_each_photograph_is_settled(
    ledger: Engine, run: Run, server: FhirServer, settings: Settings
) -> None:
    waiting = EXPOSURES[0].instance_uid
    unset: dict[str, Any] = dict.fromkeys(
        ("grade", "overlay_key", "saliency", "model_id", "referable", "settled_at", *(f"p_ge{k}" for k in range(5)))
    )
    change(ledger, run, waiting, status=Status.QUEUED, **unset)
    publish_run(settings, "night")

    assert states(ledger) == {("pending", "fhir_study_open")}
    assert server.read("Observation")[0]["dataAbsentReason"]["coding"][0]["code"] == "temp-unknown"

    fail(ledger, run, waiting, "image_damaged")
    make_due(ledger)
    publish_run(settings, "night")

    assert states(ledger) == {("published", None)}
    assert server.read("Observation")[0]["valueCodeableConcept"]["coding"][0]["code"] == "LA18644-7"
    assert numbers(server) == [1, 2, 1]


def test_lost_answer_and_refusals_leave_one_set_of_resources(
    ledger: Engine, run: Run, server: FhirServer, settings: Settings
) -> None:
    server.faults.lost = 2
    server.faults.before = [(503, {}), (409, {})]
    publish_run(settings, "night")
    make_due(ledger)
    publish_run(settings, "night")

    assert states(ledger) == {("published", None)}
    assert numbers(server) == [1, 2, 1]


def test_photograph_that_is_gone_publishes_nothing(
    ledger: Engine, run: Run, server: FhirServer, settings: Settings, pacs: Orthanc
) -> None:
    pacs.clear()
    publish_run(settings, "night")

    assert states(ledger) == {(PublicationState.REFUSED, "photograph_gone")}
    assert server.requests == []


def test_result_without_a_patient_is_refused(
    ledger: Engine, run: Run, server: FhirServer, settings: Settings, pacs: Orthanc
) -> None:
    pacs.clear()
    pacs.add(*(make_photograph(SAMPLE, one, PatientID="") for one in EXPOSURES))
    publish_run(settings, "night")

    assert states(ledger) == {(PublicationState.REFUSED, "photograph_header")}
    assert server.requests == []


def test_missing_system_is_named_before_anything_is_sent(run: Run, settings: Settings, server: FhirServer) -> None:
    with pytest.raises(SettingsError, match="FUNDUS_FHIR_SYSTEM is not set"):
        publish_run(settings.model_copy(update={"fhir_system": None}), "night")

    assert server.requests == []


def test_model_is_the_device(ledger: Engine, run: Run, server: FhirServer, settings: Settings) -> None:
    publish_run(settings, "night")

    assert server.read("Device")[0]["identifier"] == [{"system": f"{SYSTEM}/model", "value": MODEL}]
