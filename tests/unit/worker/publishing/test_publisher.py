"""A pass publishes each object once, in order, and records what became of it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, insert, select, update
from structlog.testing import capture_logs

from tests.unit.producer.ledger_rows import MODEL, NOON, add_model, change, fail, grade, make_run
from tests.unit.worker.console.accounts_and_runs import add_session_user
from worker.core.errors import FundusError, NothingToRetractError, ObjectRefusedError, StorageError
from worker.core.manifests.image_reference import ImageReference
from worker.core.vocabulary import Eye, PublicationKind, PublicationState, Status
from worker.ledger.database import epoch_now, read_transaction, write_transaction
from worker.ledger.outbox import enqueue_decision, enqueue_outcomes, enqueue_withdrawal
from worker.ledger.outbox_schema import outbox
from worker.ledger.published_outcomes import EarlierObject, PublishedOutcome, Reading
from worker.ledger.review_schema import decisions, withdrawals
from worker.ledger.runs import Run
from worker.publishing.publisher import PassResult, PublicationResult, Publisher, publish_pending

OVERLAY, SR = PublicationKind.OVERLAY, PublicationKind.SR
LATER = NOON + timedelta(hours=1)
UIDS = [f"1.2.826.0.1.3680043.8.498.{number}" for number in range(1, 9)]


@pytest.fixture
def run(engine: Engine) -> Run:
    add_model(engine)
    references = [ImageReference(f"dicomweb://pacs/1.2.3.45/1.2.3.46/{uid}", uid, eye=Eye.LEFT) for uid in UIDS]
    run = make_run(engine, "night", references)
    for uid in UIDS[1:]:
        grade(engine, run, uid, 2)
    fail(engine, run, UIDS[0], "blurred", Status.UNGRADABLE)
    return run


def enqueue(engine: Engine, run: Run, *uids: str, kinds: tuple[PublicationKind, ...] = (OVERLAY, SR)) -> None:
    with write_transaction(engine) as connection:
        enqueue_outcomes(connection, run.run_id, uids, kinds)


def decide(engine: Engine, run: Run, uid: str, reader: str, given: int | None, kind: str = "reading") -> int:
    add_session_user(engine, reader)
    row = {"run": run.name, "reader": reader, "kind": kind, "grade": given, "reason": "", "version": "1", "at": NOON}
    with write_transaction(engine) as connection:
        number = connection.execute(
            insert(decisions)
            .values(run_id=run.run_id, image_id=uid, seen_status="graded", **row)
            .returning(decisions.c.decision_id)
        ).scalar_one()
        enqueue_decision(connection, run.run_id, uid, number, (OVERLAY, SR))
    return int(number)


def withdraw(engine: Engine, run: Run, uid: str, decision_id: int, reader: str) -> None:
    with write_transaction(engine) as connection:
        connection.execute(insert(withdrawals).values(decision_id=decision_id, reader=reader, at=LATER, version="1"))
        assert enqueue_withdrawal(connection, run.run_id, uid, decision_id) == 1
        assert enqueue_withdrawal(connection, run.run_id, uid, decision_id) == 0


def publish(
    engine: Engine, publisher: Publisher, kinds: tuple[PublicationKind, ...] = (OVERLAY, SR), **options: object
) -> PassResult:
    publishers = dict.fromkeys(kinds, publisher)
    return publish_pending(engine, publishers, lease_s=60, max_attempts=3, **options)  # type: ignore[arg-type]


def states(engine: Engine) -> list[tuple[str, str, str | None]]:
    with read_transaction(engine) as connection:
        query = select(outbox.c.kind, outbox.c.state, outbox.c.error_code).order_by(outbox.c.outbox_id)
        return [tuple(row) for row in connection.execute(query)]


def make_due(engine: Engine) -> None:
    with write_transaction(engine) as connection:
        connection.execute(update(outbox).values(due_at=epoch_now() - 1))


def raiser(error: BaseException) -> Callable[[PublishedOutcome], None]:
    def fail_always(_: PublishedOutcome) -> None:
        raise error

    return fail_always


def test_each_object_is_published_once_and_the_overlay_before_its_report(engine: Engine, run: Run) -> None:
    enqueue(engine, run, *UIDS)
    published: list[PublishedOutcome] = []
    result = publish(engine, published.append)
    assert result.counts == {(PublicationResult.PUBLISHED, OVERLAY): 7, (PublicationResult.PUBLISHED, SR): 8}
    assert len({one.publication.uid for one in published}) == 15
    for uid in UIDS[1:]:
        of_image = [one for one in published if one.publication.image_id == uid]
        assert [one.publication.kind for one in of_image] == [OVERLAY, SR]
        assert of_image[1].overlay == EarlierObject(of_image[0].publication.uid, OVERLAY, is_reading=False)
    assert publish(engine, published.append).counts == {}


def test_outcome_is_that_of_the_ledger(engine: Engine, run: Run) -> None:
    enqueue(engine, run, *UIDS[:2], kinds=(SR,))
    published: list[PublishedOutcome] = []
    publish(engine, published.append, (SR,))
    ungradable, graded = sorted(published, key=lambda one: one.position)
    assert (ungradable.status, ungradable.error_code, ungradable.grade) == (Status.UNGRADABLE, "blurred", None)
    assert ungradable.probabilities == ()
    assert (graded.status, graded.grade, graded.referable, graded.eye) == (Status.GRADED, 2, True, Eye.LEFT)
    assert graded.probabilities == pytest.approx((0.9, 0.9, 0.9, 0.1, 0.1))
    assert (graded.run, graded.model_id, graded.model_name, graded.made_at) == ("night", MODEL, "toy", NOON)
    assert (graded.overlay, graded.predecessor, graded.reading) == (None, None, None)


def test_reading_names_its_readers_and_its_predecessor(engine: Engine, run: Run) -> None:
    uid = UIDS[1]
    decide(engine, run, uid, "anna", 3)
    second = decide(engine, run, uid, "ben", 3)
    third = decide(engine, run, uid, "cleo", None, "arbitration")
    published: list[PublishedOutcome] = []
    publish(engine, published.append, (SR,))
    model, one, two, three = published
    assert two.reading == Reading(second, 3, ("anna", "ben"), NOON)
    assert three.reading == Reading(third, None, ("cleo",), NOON)
    assert [one.predecessor, two.predecessor, three.predecessor] == [
        EarlierObject(model.publication.uid, SR, is_reading=False),
        EarlierObject(one.publication.uid, SR, is_reading=True),
        EarlierObject(two.publication.uid, SR, is_reading=True),
    ]


def test_withdrawn_reading_is_retracted_by_what_counts_again(engine: Engine, run: Run) -> None:
    uid = UIDS[1]
    first = decide(engine, run, uid, "anna", 3)
    second = decide(engine, run, uid, "ben", 1)
    published: list[PublishedOutcome] = []
    publish(engine, published.append, (SR,))
    withdraw(engine, run, uid, second, "ben")
    publish(engine, published.append, (SR,))
    withdraw(engine, run, uid, first, "anna")
    publish(engine, published.append, (SR,))
    _, of_anna, of_ben, anna_again, model_again = published
    assert anna_again.reading == of_anna.reading
    assert (model_again.reading, model_again.grade) == (None, 2)
    assert [one.retracted for one in published] == [
        None, None, None,
        EarlierObject(of_ben.publication.uid, SR, is_reading=True),
        EarlierObject(of_anna.publication.uid, SR, is_reading=True),
    ]  # fmt: skip
    assert anna_again.predecessor == anna_again.retracted
    assert model_again.predecessor == EarlierObject(anna_again.publication.uid, SR, is_reading=True)
    assert [one.made_at for one in published] == [NOON, NOON, NOON, LATER, LATER]
    assert len({one.publication.uid for one in published}) == 5


def test_withdrawn_reading_that_was_never_stored_needs_no_retraction(engine: Engine, run: Run) -> None:
    withdraw(engine, run, UIDS[1], decide(engine, run, UIDS[1], "anna", 3), "anna")
    published: list[PublishedOutcome] = []

    def store(outcome: PublishedOutcome) -> None:
        if outcome.retracted is not None:
            raise NothingToRetractError("the PACS has no report of the reading")
        published.append(outcome)

    publish(engine, store, (SR,))
    assert [one.reading for one in published] == [None]
    superseded = PublicationState.SUPERSEDED
    assert [state for kind, state, _ in states(engine) if kind == SR] == [
        PublicationState.PUBLISHED, superseded, superseded,
    ]  # fmt: skip


def test_outcome_that_was_graded_again_is_superseded(engine: Engine, run: Run) -> None:
    enqueue(engine, run, UIDS[1], kinds=(SR,))
    change(engine, run, UIDS[1], settled_at=datetime.now(UTC) + timedelta(hours=1))
    assert publish(engine, raiser(AssertionError()), (SR,)).count(PublicationResult.SUPERSEDED) == 1
    assert states(engine) == [(SR, PublicationState.SUPERSEDED, None)]


def test_pass_ends_for_a_kind_whose_service_is_away_and_goes_on_for_the_others(engine: Engine, run: Run) -> None:
    enqueue(engine, run, *UIDS, kinds=(SR, PublicationKind.FHIR))
    published: list[PublishedOutcome] = []
    publishers: dict[PublicationKind, Publisher] = {
        SR: raiser(StorageError("the PACS is away")),
        PublicationKind.FHIR: published.append,
    }
    result = publish_pending(engine, publishers, lease_s=60, max_attempts=3)
    assert result.away == {SR: "the PACS is away"}
    assert len(published) == 8
    make_due(engine)
    assert publish(engine, published.append, (SR,)).count(PublicationResult.PUBLISHED) == 8


def test_report_still_waits_for_its_overlay_when_the_store_is_away(engine: Engine, run: Run) -> None:
    enqueue(engine, run, *UIDS[1:])
    published: list[PublishedOutcome] = []
    publishers: dict[PublicationKind, Publisher] = {OVERLAY: raiser(StorageError("away")), SR: published.append}
    publish_pending(engine, publishers, lease_s=60, max_attempts=3)
    assert published == []


def test_object_that_must_not_be_published_is_refused_with_its_code(engine: Engine, run: Run) -> None:
    enqueue(engine, run, UIDS[1])
    publish(engine, raiser(FundusError("the photograph is gone", code="photograph_gone")))
    refused = PublicationState.REFUSED
    assert states(engine) == [(OVERLAY, refused, "photograph_gone"), (SR, refused, "photograph_gone")]


def test_object_that_a_service_refuses_while_it_accepts_others_is_refused(engine: Engine, run: Run) -> None:
    enqueue(engine, run, UIDS[1], kinds=(SR,))
    for _ in range(7):
        assert publish(engine, raiser(ObjectRefusedError("HTTP 403")), (SR,)).count(PublicationResult.POSTPONED) == 1
        make_due(engine)
    enqueue(engine, run, UIDS[2], kinds=(SR,))

    def refuse_first(outcome: PublishedOutcome) -> None:
        if outcome.publication.image_id == UIDS[1]:
            raise ObjectRefusedError("HTTP 403")

    assert publish(engine, refuse_first, (SR,)).count(PublicationResult.PUBLISHED) == 1
    make_due(engine)
    publish(engine, refuse_first, (SR,))
    assert states(engine) == [
        (SR, PublicationState.REFUSED, "storage_refused"), (SR, PublicationState.PUBLISHED, None),
    ]  # fmt: skip


def test_unexpected_error_is_recorded_without_its_message(engine: Engine, run: Run) -> None:
    enqueue(engine, run, UIDS[1], kinds=(SR,))
    with capture_logs() as logs:
        publish(engine, raiser(ValueError("value 'MARKED^NAME' is invalid")), (SR,))
    with read_transaction(engine) as connection:
        detail = connection.scalar(select(outbox.c.error_detail))
    assert detail is not None
    assert "ValueError in " in detail
    assert "MARKED" not in detail + str(logs)


def test_interrupted_pass_releases_what_it_did_not_publish(engine: Engine, run: Run) -> None:
    enqueue(engine, run, *UIDS, kinds=(SR,))
    with pytest.raises(KeyboardInterrupt):
        publish(engine, raiser(KeyboardInterrupt()), (SR,))
    with read_transaction(engine) as connection:
        rows = connection.execute(select(outbox.c.lease_token, outbox.c.attempts, outbox.c.state)).all()
    assert rows == [(None, 0, PublicationState.PENDING)] * 8
