import random
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import Engine, insert, select, true, update

from tests.unit.producer.ledger_rows import MODEL, NOON, add_model, change, grade, make_run
from tests.unit.worker.console.accounts_and_runs import add_session_user, graded_run
from worker.console.decisions import (
    ConflictError,
    ReviewForm,
    allowed_decision,
    read_image_decisions,
    record_decision,
    visible_decisions,
)
from worker.console.image_detail import ImageDetail, read_image_detail
from worker.console.reader_policy import REPORT_AFTER_S, set_reader_count
from worker.console.sessions import SessionUser
from worker.core.manifests.image_reference import ImageReference
from worker.core.vocabulary import DecisionKind, PublicationKind, ReviewState, Role, Status
from worker.ledger.audit_log import read_audit_log
from worker.ledger.database import epoch_now, read_transaction, write_transaction
from worker.ledger.final_grades import read_decisions, resolve_review
from worker.ledger.outbox_schema import outbox
from worker.ledger.review_schema import reviews
from worker.ledger.runs import Run
from worker.ledger.schema import gradings, reports

IMAGE = "00000"
SHOWN = f"graded:2:{MODEL}"


@pytest.fixture
def run(engine: Engine) -> Run:
    return graded_run(engine, [2, 0, None])


@pytest.fixture
def graders(engine: Engine) -> dict[str, SessionUser]:
    return {name: add_session_user(engine, name) for name in ("anna", "ben", "cleo")}


def submit_review(
    engine: Engine, user: SessionUser, given: int | None, reason: str = "why", *, readers: int = 1, last_seen: int = 0,
    shown: str = SHOWN, image_id: str = IMAGE,
) -> int:  # fmt: skip
    return record_decision(
        engine, "night", image_id, user, ReviewForm(given, reason, shown, last_seen), default_readers=readers
    )


def image(engine: Engine, image_id: str = IMAGE) -> ImageDetail:
    found = read_image_detail(engine, "night", image_id)
    assert found is not None
    return found


def test_confirmation_needs_no_reason_and_is_the_final_grade(
    engine: Engine, run: Run, graders: dict[str, SessionUser]
) -> None:
    submit_review(engine, graders["anna"], 2, "")
    found = image(engine)
    assert (found.review, found.final_grade, found.decided_by, found.grade) == (ReviewState.READ, 2, "anna", 2)
    (entry,) = [entry for entry in read_audit_log(engine, run="night", last=9) if entry["action"] == "decide"]
    assert entry["actor"].startswith("anna in ")
    assert entry["details"] == {"decision": 1, "kind": "reading"}


def test_final_decision_is_enqueued_for_publishing(engine: Engine, graders: dict[str, SessionUser]) -> None:
    uid = "1.2.826.0.1.3680043.8.498.1"
    add_model(engine)
    night = make_run(engine, "night", [ImageReference(f"dicomweb://pacs/1.2.3.45/1.2.3.46/{uid}", uid)])
    grade(engine, night, uid, 2)

    def enqueued() -> list[tuple[str, int]]:
        with read_transaction(engine) as connection:
            query = select(outbox.c.kind, outbox.c.decision_id).order_by(outbox.c.outbox_id)
            return [tuple(row) for row in connection.execute(query)]

    def decide(name: str) -> int:
        form = ReviewForm(3, "why", SHOWN, 0)
        publish = (PublicationKind.OVERLAY, PublicationKind.SR)
        return record_decision(engine, "night", uid, graders[name], form, default_readers=2, publish=publish)

    decide("anna")
    assert enqueued() == []
    second = decide("ben")
    assert enqueued() == [("overlay", 0), ("sr", 0), ("sr", second)]


def test_decision_schedules_a_new_report(engine: Engine, run: Run, graders: dict[str, SessionUser]) -> None:
    with write_transaction(engine) as connection:
        written = {"prefix": "night/report/", "written_at": NOON}
        connection.execute(insert(reports).values(run_id=run.run_id, **written))
    submit_review(engine, graders["anna"], 2, "")
    with read_transaction(engine) as connection:
        (left,) = connection.execute(select(reports.c.due_at - epoch_now())).one()
    assert REPORT_AFTER_S - 30 < left <= REPORT_AFTER_S


@pytest.mark.parametrize("given", [0, 4, None])
def test_change_needs_a_reason(engine: Engine, run: Run, graders: dict[str, SessionUser], given: int | None) -> None:
    with pytest.raises(ValueError, match="a reason is required"):
        submit_review(engine, graders["anna"], given, "")
    assert image(engine).review is ReviewState.UNREAD
    submit_review(engine, graders["anna"], given, "soft exudates")
    assert (image(engine).review, image(engine).final_grade) == (ReviewState.READ, given)


def test_length_of_the_reason_is_limited(engine: Engine, run: Run, graders: dict[str, SessionUser]) -> None:
    with pytest.raises(ValueError, match="2,001 characters; the limit is 2,000"):
        submit_review(engine, graders["anna"], 2, "x" * 2001)


def test_ungradable_image_can_be_confirmed_or_graded(engine: Engine, run: Run, graders: dict[str, SessionUser]) -> None:
    shown = "ungradable::"
    submit_review(engine, graders["anna"], None, "", shown=shown, image_id="00002")
    assert (image(engine, "00002").review, image(engine, "00002").final_grade) == (ReviewState.READ, None)
    submit_review(engine, graders["ben"], 1, "good enough", shown=shown, last_seen=1, image_id="00002")
    assert image(engine, "00002").final_grade == 1


def test_queued_image_cannot_be_reviewed(engine: Engine, run: Run, graders: dict[str, SessionUser]) -> None:
    with write_transaction(engine) as connection:
        connection.execute(
            update(gradings)
            .where(gradings.c.image_id == "00002")
            .values(status=Status.QUEUED, settled_at=None, error_code=None)
        )
    with pytest.raises(ConflictError, match="an image with status queued"):
        submit_review(engine, graders["anna"], 1, shown="queued::", image_id="00002")


def test_decision_on_an_outdated_model_result_is_refused(
    engine: Engine, run: Run, graders: dict[str, SessionUser]
) -> None:
    grade(engine, run, IMAGE, 4)
    with pytest.raises(ConflictError, match="graded this image again"):
        submit_review(engine, graders["anna"], 2)


def test_decision_without_seeing_the_last_one_is_refused(
    engine: Engine, run: Run, graders: dict[str, SessionUser]
) -> None:
    first = submit_review(engine, graders["anna"], 3)
    with pytest.raises(ConflictError, match="anna has reviewed this image since you opened it"):
        submit_review(engine, graders["ben"], 2)
    submit_review(engine, graders["ben"], 2, last_seen=first)
    assert (image(engine).final_grade, image(engine).decided_by) == (2, "ben")
    with read_transaction(engine) as connection:
        assert [one.reader for one in read_image_decisions(connection, image(engine))] == ["anna", "ben"]


def test_decision_on_another_photograph_than_the_graded_one_is_refused(
    engine: Engine, run: Run, graders: dict[str, SessionUser]
) -> None:
    def decide(photograph: str | None, last_seen: int = 0) -> int:
        form = ReviewForm(2, "", SHOWN, last_seen, photograph)
        return record_decision(engine, "night", IMAGE, graders["anna"], form, default_readers=1)

    change(engine, run, IMAGE, content_sha256="ab" * 32)
    with pytest.raises(ConflictError, match="no longer the photograph that was graded"):
        decide("cd" * 32)
    decide(None, decide("ab" * 32))
    with read_transaction(engine) as connection:
        decided = read_image_decisions(connection, image(engine))
    assert [one.seen_sha256 for one in decided] == ["ab" * 32, None]


def test_image_leased_by_another_reader_is_refused(engine: Engine, run: Run, graders: dict[str, SessionUser]) -> None:
    submit_review(engine, graders["anna"], 2, "")
    with write_transaction(engine) as connection:
        connection.execute(update(reviews).values(leased_by="ben", leased_until=epoch_now() + 60))
    with pytest.raises(ConflictError, match="ben is reviewing this image"):
        submit_review(engine, graders["anna"], 3, last_seen=1)
    with write_transaction(engine) as connection:
        connection.execute(update(reviews).values(leased_until=epoch_now() - 1))
    submit_review(engine, graders["anna"], 3, last_seen=1)


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
def test_only_graders_decide(engine: Engine, run: Run, role: Role) -> None:
    with pytest.raises(ConflictError):
        submit_review(engine, add_session_user(engine, "vera", role), 2)


def test_two_readers_who_agree_need_no_arbitration(engine: Engine, run: Run, graders: dict[str, SessionUser]) -> None:
    submit_review(engine, graders["anna"], 3, readers=2)
    assert (image(engine).review, image(engine).final_grade) == (ReviewState.HALF_READ, None)
    submit_review(engine, graders["ben"], 3, readers=2)
    assert (image(engine).review, image(engine).final_grade) == (ReviewState.READ, 3)
    assert image(engine).decided_by == "anna, ben"


def test_third_reader_arbitrates_a_disagreement(engine: Engine, run: Run, graders: dict[str, SessionUser]) -> None:
    submit_review(engine, graders["anna"], 3, readers=2)
    last = submit_review(engine, graders["ben"], 1, readers=2)
    assert (image(engine).review, image(engine).final_grade) == (ReviewState.DISPUTED, None)
    for reader in ("anna", "ben"):
        with pytest.raises(ConflictError, match="a third reader arbitrates"):
            submit_review(engine, graders[reader], 3, readers=2, last_seen=last)
    with pytest.raises(ValueError, match="a reason is required"):
        submit_review(engine, graders["cleo"], 2, "", readers=2, last_seen=last)
    submit_review(engine, graders["cleo"], 2, readers=2, last_seen=last)
    assert (image(engine).review, image(engine).final_grade) == (ReviewState.ARBITRATED, 2)
    assert image(engine).decided_by == "cleo"


def test_second_reader_does_not_see_the_first_decision(
    engine: Engine, run: Run, graders: dict[str, SessionUser]
) -> None:
    submit_review(engine, graders["anna"], 3, readers=2)
    found = image(engine)
    with read_transaction(engine) as connection:
        decided = read_image_decisions(connection, found)
    assert visible_decisions(decided, found.review, 2, graders["ben"]) == []
    assert [one.reader for one in visible_decisions(decided, found.review, 2, graders["anna"])] == ["anna"]
    assert len(visible_decisions(decided, found.review, 2, add_session_user(engine, "olga", Role.OPERATOR))) == 1
    assert allowed_decision(decided, found.review, 2, graders["ben"]) is DecisionKind.READING


def test_changed_setting_does_not_affect_a_started_run(
    engine: Engine, run: Run, graders: dict[str, SessionUser]
) -> None:
    submit_review(engine, graders["anna"], 3, readers=2)
    last = submit_review(engine, graders["ben"], 3, readers=1)
    assert image(engine).review is ReviewState.READ
    assert image(engine).decided_by == "anna, ben"
    assert last == 2


def test_changed_reader_count_resolves_existing_reviews_again(
    engine: Engine, run: Run, graders: dict[str, SessionUser]
) -> None:
    submit_review(engine, graders["anna"], 3)
    set_reader_count(engine, run, 2, "olga")
    assert (image(engine).review, image(engine).final_grade) == (ReviewState.HALF_READ, None)
    submit_review(engine, graders["ben"], 1)
    assert image(engine).review is ReviewState.DISPUTED
    set_reader_count(engine, run, 1, "olga")
    assert (image(engine).review, image(engine).final_grade) == (ReviewState.READ, 1)
    (*_, entry) = read_audit_log(engine, run="night", last=9)
    assert (entry["action"], entry["details"]) == ("set_readers", {"readers": 1})


@pytest.mark.parametrize("readers", [1, 2])
def test_concurrent_decisions_are_not_lost(
    engine: Engine, run: Run, graders: dict[str, SessionUser], readers: int
) -> None:
    gate = Barrier(2)

    def at_once(name: str, given: int) -> str:
        gate.wait()
        try:
            return str(submit_review(engine, graders[name], given, readers=readers))
        except ConflictError as error:
            return error.detail

    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(at_once, ("anna", "ben"), (3, 1)))
    with read_transaction(engine) as connection:
        decided = read_image_decisions(connection, image(engine))
    if readers == 2:
        assert sorted(answers) == ["1", "2"]
        assert {one.reader: one.grade for one in decided} == {"anna": 3, "ben": 1}
        assert image(engine).review is ReviewState.DISPUTED
    else:
        (refused,) = [answer for answer in answers if not answer.isdigit()]
        assert "has reviewed this image since you opened it" in refused
        assert len(decided) == 1
        assert image(engine).final_grade == decided[0].grade


def test_stored_review_always_follows_from_the_decisions(engine: Engine, graders: dict[str, SessionUser]) -> None:
    run = graded_run(engine, [2] * 6)
    rng = random.Random(5)
    for _ in range(60):
        image_id = f"{rng.randrange(6):05d}"
        user = rng.choice(list(graders.values()))
        with read_transaction(engine) as connection:
            seen = read_image_decisions(connection, image(engine, image_id))
        try:
            submit_review(
                engine, user, rng.choice([1, 2, None]), readers=2, image_id=image_id,
                last_seen=seen[-1].decision_id if seen and rng.random() < 0.9 else 0,
            )  # fmt: skip
        except ConflictError:
            continue
    with read_transaction(engine) as connection:
        decided = read_decisions(connection, run.run_id, run.name, true())
        rows = {row.image_id: row for row in connection.execute(select(reviews))}
    assert len(decided) == 6
    for image_id, some in decided.items():
        standing = resolve_review(some, 2)
        assert (rows[image_id].state, rows[image_id].grade) == (standing.state, standing.grade)
        finished = standing.state is not ReviewState.HALF_READ
        assert rows[image_id].differs == (finished and any(one.grade != 2 for one in some))
