"""Outcomes and decisions enqueue what is published; one publisher at a time holds an object, in the right order."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, delete, select, update

from tests.unit.worker.ledger.ledger_rows import MODEL, add_model, add_run, change, failed, graded, lease
from worker.core.dicom.derived_uid import derive_uid, find_instance_uid, image_id_is_uid
from worker.core.errors import FundusError, Ungradable
from worker.core.errors import StorageError as ServiceFailure
from worker.core.predictions import Outcome
from worker.core.vocabulary import PublicationKind, PublicationState, Status
from worker.ledger.database import epoch_now, read_transaction, write_transaction
from worker.ledger.leases import settle_chunk
from worker.ledger.outbox import (
    PublicationLease,
    enqueue_decision,
    enqueue_outcomes,
    finish_publication,
    lease_publications,
    pause_after,
    postpone_publication,
    refuse_publication,
    release_publications,
    renew_publications,
    retry_refused,
    supersede_publication,
)
from worker.ledger.outbox_schema import outbox
from worker.ledger.schema import audit_log, gradings

OVERLAY, SR, FHIR = PublicationKind.OVERLAY, PublicationKind.SR, PublicationKind.FHIR
ALL = (OVERLAY, SR, FHIR)
UID = "1.2.826.0.1.3680043.8.498.1"
OTHER_UID = "1.2.826.0.1.3680043.8.498.2"


@pytest.fixture
def run(engine: Engine) -> int:
    add_model(engine)
    return add_run(engine, [UID, OTHER_UID, "photo"])


def settle(engine: Engine, run_id: int, *outcomes: Outcome, publish: tuple[PublicationKind, ...] = ALL) -> None:
    held = lease(engine, run_id, *(outcome.image_id for outcome in outcomes))
    settle_chunk(engine, held, outcomes, {}, model_id=MODEL, publish=publish, retry_after_s=60)


def ungradable(image_id: str) -> Outcome:
    return Outcome(image_id, Status.UNGRADABLE, error_code="blurred", error_detail="sharpness 1 of 5")


def rows(engine: Engine) -> list[tuple[str, str, str, int]]:
    with read_transaction(engine) as connection:
        query = select(outbox.c.image_id, outbox.c.kind, outbox.c.state, outbox.c.decision_id)
        return [tuple(row) for row in connection.execute(query.order_by(outbox.c.outbox_id))]


def take(
    engine: Engine, kinds: tuple[PublicationKind, ...] = ALL, *, run_id: int | None = None, limit: int = 16
) -> PublicationLease:
    return lease_publications(engine, kinds, run_id=run_id, limit=limit, lease_s=60, max_attempts=3)


def taken(held: PublicationLease) -> list[tuple[str, str]]:
    return [(one.image_id, one.kind) for one in held.publications]


def make_due(engine: Engine) -> None:
    with write_transaction(engine) as connection:
        connection.execute(update(outbox).values(due_at=epoch_now() - 1))


def test_uid_is_derived_from_all_parts_and_their_borders() -> None:
    assert derive_uid("sr", "night", "a") == derive_uid("sr", "night", "a")
    assert derive_uid("sr", "nighta", "") != derive_uid("sr", "night", "a")
    assert derive_uid("sr", "night", "a") == "2.25.7353145432807649437747219373858934633"
    assert image_id_is_uid(derive_uid("sr", "night", "a"))


@pytest.mark.parametrize("text", ["", "photo", "1.2.3", "3.2.840.10008", "1.02.3.4", "1.2.3.4.", "1.2.3." + "4" * 60])
def test_other_texts_are_no_uids(text: str) -> None:
    assert not image_id_is_uid(text)


@pytest.mark.parametrize(
    ("image_id", "uri", "found"),
    [
        (UID, "file:///a.dcm", UID),
        ("photo", "file:///photo.jpg", None),
        ("any", f"dicomweb://pacs/1.2.3.4/1.2.3.5/{UID}", UID),
        ("any", "dicomweb://pacs/1.2.3/1.2.4/2.25.17", "2.25.17"),
        ("1.2.3", "file:///1.2.3", None),
        (UID, "dicomweb://pacs/studies", None),
    ],
)
def test_photograph_is_a_dicom_instance_by_its_id_or_uri(image_id: str, uri: str, found: str | None) -> None:
    assert find_instance_uid(image_id, uri) == found


def test_outcome_enqueues_its_objects_and_no_others(engine: Engine, run: int) -> None:
    settle(engine, run, graded(UID), ungradable(OTHER_UID), graded("photo"))
    pending = PublicationState.PENDING
    assert rows(engine) == [
        (UID, OVERLAY, pending, 0),
        (UID, SR, pending, 0),
        (UID, FHIR, pending, 0),
        (OTHER_UID, SR, pending, 0),
        (OTHER_UID, FHIR, pending, 0),
    ]


def test_nothing_is_enqueued_unless_it_is_set(engine: Engine, run: int) -> None:
    settle(engine, run, graded(UID), failed(OTHER_UID), publish=())
    assert rows(engine) == []
    with write_transaction(engine) as connection:
        assert enqueue_outcomes(connection, run, [UID, OTHER_UID], (SR,)) == 1
        assert enqueue_outcomes(connection, run, [UID, OTHER_UID], (SR,)) == 0
    assert rows(engine) == [(UID, SR, PublicationState.PENDING, 0)]


def test_image_whose_lease_was_lost_is_not_enqueued(engine: Engine, run: int) -> None:
    held = lease(engine, run, UID)
    change(engine, UID, lease_token="another")
    settle_chunk(engine, held, [graded(UID)], {}, model_id=MODEL, publish=ALL, retry_after_s=60)
    assert rows(engine) == []


def test_image_that_is_graded_again_is_another_object(engine: Engine, run: int) -> None:
    settle(engine, run, ungradable(UID), publish=(SR,))
    change(engine, UID, settled_at=datetime.now(UTC) + timedelta(hours=1))
    with write_transaction(engine) as connection:
        enqueue_outcomes(connection, run, [UID], (SR,))
        assert len(set(connection.scalars(select(outbox.c.uid)))) == 2


def test_report_waits_for_its_overlay(engine: Engine, run: int) -> None:
    settle(engine, run, graded(UID), ungradable(OTHER_UID))
    first = take(engine)
    assert taken(first) == [(UID, OVERLAY), (UID, FHIR), (OTHER_UID, SR), (OTHER_UID, FHIR)]
    assert taken(take(engine)) == []
    assert finish_publication(engine, first, first.publications[0])
    assert taken(take(engine)) == [(UID, SR)]


def test_report_does_not_wait_for_an_overlay_that_is_not_published(engine: Engine, run: int) -> None:
    settle(engine, run, graded(UID))
    assert taken(take(engine, (SR,))) == [(UID, SR)]


def test_refused_overlay_does_not_hold_its_report(engine: Engine, run: int) -> None:
    settle(engine, run, graded(UID), publish=(OVERLAY, SR))
    held = take(engine)
    assert refuse_publication(engine, held, held.publications[0], Ungradable("no overlay", code="overlay_retired"))
    assert taken(take(engine)) == [(UID, SR)]


def test_decision_follows_the_model_outcome_and_has_no_overlay(engine: Engine, run: int) -> None:
    settle(engine, run, graded(UID), publish=())
    with write_transaction(engine) as connection:
        assert enqueue_decision(connection, run, UID, 7, ALL) == 5
        assert enqueue_decision(connection, run, UID, 7, ALL) == 0
    assert [(kind, decision) for _, kind, _, decision in rows(engine)] == [
        (OVERLAY, 0), (SR, 0), (FHIR, 0), (SR, 7), (FHIR, 7),
    ]  # fmt: skip
    held = take(engine, (SR,))
    assert [one.decision_id for one in held.publications] == [0]
    finish_publication(engine, held, held.publications[0])
    assert [one.decision_id for one in take(engine, (SR,)).publications] == [7]


def test_held_object_is_renewed_and_given_to_another_publisher_when_its_holder_dies(engine: Engine, run: int) -> None:
    settle(engine, run, ungradable(UID), publish=(SR,))
    first = take(engine)
    make_due(engine)
    renew_publications(engine, first, lease_s=60)
    assert taken(take(engine)) == []
    make_due(engine)
    second = take(engine)
    assert taken(second) == [(UID, SR)]
    assert not finish_publication(engine, first, first.publications[0])
    assert finish_publication(engine, second, second.publications[0])


def test_object_that_ends_every_publisher_is_refused(engine: Engine, run: int) -> None:
    settle(engine, run, ungradable(UID), publish=(SR,))
    for _ in range(3):
        assert taken(take(engine)) == [(UID, SR)]
        make_due(engine)
    assert taken(take(engine)) == []
    with read_transaction(engine) as connection:
        assert connection.scalar(select(outbox.c.error_code)) == "publisher_crash"


def test_failing_service_postpones_with_a_longer_pause_each_time(engine: Engine, run: int) -> None:
    settle(engine, run, ungradable(UID), publish=(SR,))
    for failures in range(5):
        held = take(engine)
        (one,) = held.publications
        assert one.failures == failures
        assert postpone_publication(engine, held, one, ServiceFailure("the PACS is away"))
        with read_transaction(engine) as connection:
            pause = connection.scalar(select(outbox.c.due_at - epoch_now()))
        assert pause == pytest.approx(30 * 2**failures, abs=5)
        make_due(engine)
    assert pause_after(100) == 3600


def test_released_objects_are_due_at_once_and_lose_no_attempt(engine: Engine, run: int) -> None:
    settle(engine, run, ungradable(UID), publish=(SR,))
    for _ in range(5):
        release_publications(engine, take(engine))
        make_due(engine)
    assert taken(take(engine)) == [(UID, SR)]


def test_refused_objects_of_a_run_are_tried_again_on_request(engine: Engine, run: int) -> None:
    settle(engine, run, ungradable(UID), ungradable(OTHER_UID), publish=(SR,))
    held = take(engine)
    refuse_publication(engine, held, held.publications[0], FundusError("gone", code="photograph_gone"))
    postpone_publication(engine, held, held.publications[1], ServiceFailure("away"))
    assert taken(take(engine)) == []
    with write_transaction(engine) as connection:
        assert retry_refused(connection, run, (SR,)) == 1
    assert taken(take(engine)) == [(UID, SR), (OTHER_UID, SR)]


def test_superseded_object_is_final(engine: Engine, run: int) -> None:
    settle(engine, run, ungradable(UID), publish=(SR,))
    held = take(engine)
    assert supersede_publication(engine, held, held.publications[0])
    make_due(engine)
    assert taken(take(engine)) == []


def test_object_ends_with_its_outcome(engine: Engine, run: int) -> None:
    settle(engine, run, graded(UID))
    with write_transaction(engine) as connection:
        connection.execute(delete(gradings).where(gradings.c.image_id == UID))
    assert rows(engine) == []


def test_lease_is_limited_to_a_run_and_a_number_and_is_in_the_audit_log(engine: Engine, run: int) -> None:
    settle(engine, run, graded(UID), ungradable(OTHER_UID))
    assert taken(take(engine, run_id=run + 1)) == []
    assert len(take(engine, run_id=run, limit=3).publications) == 3
    with read_transaction(engine) as connection:
        details = connection.scalar(select(audit_log.c.details).where(audit_log.c.action == "publish"))
    assert details == {"overlay": 1, "fhir": 1, "sr": 1}
