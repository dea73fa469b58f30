"""Worker, console and publisher publish to a PACS and a FHIR server, each with its own rights on PostgreSQL."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from tests.services.dicom_objects import Exposure, make_photograph
from tests.services.fhir_server import TOKEN, FhirServer, run_fhir_server
from tests.services.orthanc import Orthanc
from tests.services.postgres_roles import program_roles
from tests.unit.producer.ledger_rows import MODEL, add_model, make_run
from tests.unit.worker.console.accounts_and_runs import add_session_user
from tests.unit.worker.ledger.ledger_rows import graded, lease
from worker.console.decisions import ReviewForm, record_decision
from worker.console.image_detail import read_image_detail
from worker.console.withdrawals import withdraw_decision
from worker.core.manifests.image_reference import ImageReference
from worker.core.settings import Settings
from worker.core.uris import InstancePath, dicomweb_uri
from worker.core.vocabulary import Eye, PublicationState
from worker.ledger.database import connect, read_transaction
from worker.ledger.leases import settle_chunk
from worker.ledger.outbox_schema import outbox
from worker.publishing.passes import preview, publish_all, publish_run, write_objects

SAMPLE = (Path(__file__).parents[2] / "producer" / "demo" / "samples" / "IDRiD_001.jpg").read_bytes()
PHOTOGRAPH = Exposure(name="right")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FhirServer]:
    with run_fhir_server(tmp_path / "fhir.db") as server:
        yield server


@pytest.fixture
def settings_of(
    postgres_url: str, pacs: Orthanc, server: FhirServer, folder: Path, make_settings: Callable[..., Settings]
) -> Iterator[Callable[[str], Settings]]:
    """Function that makes the settings of a program, by its role."""
    with program_roles(postgres_url) as urls:
        yield lambda role: make_settings(
            database_url=urls[role],
            publish="sr,overlay,fhir",
            fhir_url=server.url,
            fhir_token=TOKEN,
            fhir_system="https://clinic.example/fundus",
        )


@pytest.fixture
def ledger_of(settings_of: Callable[[str], Settings]) -> Iterator[Callable[[str], Engine]]:
    """Function that connects a program to the ledger, by its role."""
    with ExitStack() as connections:

        def open_ledger(role: str) -> Engine:
            engine = connect(settings_of(role))
            connections.callback(engine.dispose)
            return engine

        yield open_ledger


def test_each_program_publishes_with_the_rights_of_its_role(
    pacs: Orthanc,
    server: FhirServer,
    folder: Path,
    tmp_path: Path,
    settings_of: Callable[[str], Settings],
    ledger_of: Callable[[str], Engine],
) -> None:
    owner, of_publisher = ledger_of("owner"), settings_of("publisher")
    kinds = of_publisher.publication_kinds
    pacs.add(make_photograph(SAMPLE, PHOTOGRAPH))
    path = InstancePath(PHOTOGRAPH.study_uid, PHOTOGRAPH.series_uid, PHOTOGRAPH.instance_uid)
    add_model(owner)
    run = make_run(owner, "night", [ImageReference(dicomweb_uri(path), PHOTOGRAPH.instance_uid, eye=Eye.RIGHT)])
    outcome = graded(PHOTOGRAPH.instance_uid)
    assert outcome.overlay_key is not None
    (folder / outcome.overlay_key).parent.mkdir(parents=True)
    (folder / outcome.overlay_key).write_bytes(SAMPLE)

    worker = ledger_of("worker")
    held = lease(worker, run.run_id, PHOTOGRAPH.instance_uid)
    settle_chunk(worker, held, [outcome], {}, model_id=MODEL, publish=kinds, retry_after_s=60)
    assert publish_all(of_publisher).describe()["published"] == {"overlay": 1, "sr": 1, "fhir": 1}

    console, anna = ledger_of("console"), add_session_user(owner, "anna")
    image = read_image_detail(console, "night", PHOTOGRAPH.instance_uid)
    assert image is not None
    form = ReviewForm(3, "haemorrhages", image.model_result, 0)
    decision = record_decision(console, "night", PHOTOGRAPH.instance_uid, anna, form, default_readers=1, publish=kinds)
    assert publish_run(of_publisher, "night").describe()["published"] == {"sr": 1, "fhir": 1}
    assert server.read("Observation")[0]["status"] == "final"
    withdraw_decision(console, "night", PHOTOGRAPH.instance_uid, anna, decision, default_readers=1, publish=kinds)
    assert publish_all(of_publisher).describe()["published"] == {"sr": 1, "fhir": 1}
    assert server.read("Observation")[0]["status"] == "preliminary"

    assert len(list(preview(of_publisher, "night"))) == 5
    assert len(list(write_objects(of_publisher, "night", tmp_path / "out"))) == 3
    with read_transaction(owner) as connection:
        assert Counter(connection.scalars(select(outbox.c.state))) == {PublicationState.PUBLISHED: 7}
    # The photograph, its overlay, and reports of the model, the reading and its withdrawal.
    assert len(pacs.instances()) == 5
