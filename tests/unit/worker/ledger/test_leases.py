"""Leases are exclusive, outcomes are settled once, and service errors cost no attempt; on both databases."""

from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import Engine

from tests.unit.worker.ledger.ledger_rows import (
    MODEL,
    add_model,
    add_run,
    change,
    database_time,
    failed,
    graded,
    lease,
    overdue,
    row,
    run_row,
)
from worker.core.content import ContentId
from worker.core.errors import MessageError, ModelError, ObjectRefusedError, StorageError
from worker.core.messages import GradeChunk
from worker.core.predictions import Evidence, Outcome
from worker.ledger.leases import find_graded_uri, finish_run, is_suspect, register_model, renew_lease, settle_chunk


def settle(engine: Engine, held: object, outcomes: list, released: dict | None = None) -> int:
    return settle_chunk(engine, held, outcomes, released or {}, model_id=MODEL, retry_after_s=60)


@pytest.fixture
def night(engine: Engine) -> int:
    add_model(engine)
    return add_run(engine, ["a", "b", "c"])


def ids(held: object) -> list[str]:
    return [image.image_id for image in held.images]


def test_lease_keeps_the_order_of_the_chunk_and_counts_the_attempt(engine: Engine, night: int) -> None:
    held = lease(engine, night, "c", "a")
    assert [(i.image_id, i.uri, i.attempts) for i in held.images] == [
        ("c", "file:///c.jpg", 1),
        ("a", "file:///a.jpg", 1),
    ]
    assert held.run_name == "night"
    assert row(engine, "b").attempts == 0


def test_leased_images_cannot_be_leased_again(engine: Engine, night: int) -> None:
    lease(engine, night, "a", "b")
    assert ids(lease(engine, night, "a", "b", "c")) == ["c"]


def test_image_with_an_expired_lease_is_leased_only_in_a_chunk_of_one(engine: Engine, night: int) -> None:
    lease(engine, night, "a", "b")
    overdue(engine, "a", "b")
    assert ids(lease(engine, night, "a", "b")) == []
    assert ids(lease(engine, night, "a")) == ["a"]
    assert row(engine, "a").attempts == 2


def test_image_without_attempts_left_is_not_leased(engine: Engine, night: int) -> None:
    change(engine, "a", attempts=3)
    assert ids(lease(engine, night, "a")) == []


def test_only_a_chunk_of_one_image_that_saw_a_crash_is_suspect(engine: Engine, night: int) -> None:
    assert not is_suspect(engine, GradeChunk(run_id=night, image_ids=("a",)))
    change(engine, "a", attempts=1)
    assert is_suspect(engine, GradeChunk(run_id=night, image_ids=("a",)))
    assert not is_suspect(engine, GradeChunk(run_id=night, image_ids=("a", "b")))


def test_renewed_lease_stays_exclusive(engine: Engine, night: int) -> None:
    held = lease(engine, night, "a", lease_s=60)
    overdue(engine, "a")
    renew_lease(engine, held, lease_s=60)
    assert ids(lease(engine, night, "a")) == []


def test_settled_row_has_all_values(engine: Engine, night: int) -> None:
    held = lease(engine, night, "a", "b")
    assert settle(engine, held, [graded("a", 2), failed("b")]) == 2
    a, b = row(engine, "a"), row(engine, "b")
    assert (a.status, a.grade, a.referable, a.flags) == ("graded", 2, True, "not_monotone")
    assert [a.p_ge0, a.p_ge1, a.p_ge2, a.p_ge3, a.p_ge4] == pytest.approx([0.9, 0.9, 0.9, 0.25, 0.25])
    saliency = np.frombuffer(a.saliency, np.float16)
    assert len(a.saliency) == 98
    np.testing.assert_allclose(saliency, np.linspace(0, 1, 49), atol=5e-4)
    assert (a.model_id, a.overlay_key, a.lease_token, a.error_code) == (MODEL, "night/a.png", None, None)
    assert a.settled_at.tzinfo is not None
    assert (b.status, b.error_code, b.error_detail, b.grade) == ("failed", "image_damaged", "JPEG ends at byte 7", None)
    assert (a.disagreement, b.disagreement) == (None, None)


def test_disagreement_unfamiliarity_and_evidence_are_stored(engine: Engine, night: int) -> None:
    held = lease(engine, night, "a")
    outcome = graded("a")
    assert outcome.prediction is not None
    prediction = replace(outcome.prediction, disagreement=0.75, unfamiliarity=1.5, evidence=Evidence(4.5, 18.0))
    settle(engine, held, [replace(outcome, prediction=prediction)])
    assert (row(engine, "a").disagreement, row(engine, "a").unfamiliarity) == (0.75, 1.5)
    assert (row(engine, "a").evidence, row(engine, "a").evidence_scale) == (4.5, 18.0)


@pytest.mark.parametrize("outcome", [graded("a"), failed("a")], ids=["graded", "failed"])
def test_identity_of_the_fetched_bytes_is_stored(engine: Engine, night: int, outcome: Outcome) -> None:
    held = lease(engine, night, "a", "b")
    settle(engine, held, [replace(outcome, content=ContentId("ab" * 32, "version-7")), failed("b")])
    assert (row(engine, "a").content_sha256, row(engine, "a").content_version) == ("ab" * 32, "version-7")
    assert (row(engine, "b").content_sha256, row(engine, "b").content_version) == (None, None)


def test_settling_twice_changes_nothing(engine: Engine, night: int) -> None:
    held = lease(engine, night, "a")
    assert settle(engine, held, [graded("a", 2)]) == 1
    assert settle(engine, held, [graded("a", 4)]) == 0
    assert row(engine, "a").grade == 2


def test_lost_lease_settles_nothing(engine: Engine, night: int) -> None:
    slow = lease(engine, night, "a")
    overdue(engine, "a")
    quick = lease(engine, night, "a")
    assert settle(engine, slow, [graded("a", 0)]) == 0
    assert settle(engine, quick, [graded("a", 3)]) == 1
    assert row(engine, "a").grade == 3


def test_released_image_stores_the_error_and_counts_no_attempt(engine: Engine, night: int) -> None:
    held = lease(engine, night, "a", "b")
    assert settle(engine, held, [graded("b")], {"a": StorageError("SlowDown (HTTP 503)")}) == 2
    a = row(engine, "a")
    assert (a.status, a.attempts, a.lease_token) == ("queued", 0, None)
    assert (a.error_code, a.error_detail) == ("storage_unavailable", "SlowDown (HTTP 503)")
    assert ids(lease(engine, night, "a", "b")) == ["a"]


def test_each_refusal_is_counted_and_doubles_the_pause_up_to_a_limit(engine: Engine, night: int) -> None:
    change(engine, "b", refusals=1)
    change(engine, "c", refusals=9)
    held = lease(engine, night, "a", "b", "c")
    assert [image.refusals for image in held.images] == [0, 1, 9]
    before = database_time(engine)
    settle(engine, held, [], dict.fromkeys("abc", ObjectRefusedError("AccessDenied (HTTP 403)")))
    rows = [row(engine, name) for name in "abc"]
    assert [(r.refusals, r.attempts, r.error_code) for r in rows] == [
        (1, 0, "storage_refused"),
        (2, 0, "storage_refused"),
        (10, 0, "storage_refused"),
    ]
    assert [round((r.due_at - before) / 60) for r in rows] == [1, 2, 32]


def test_graded_image_of_a_store_is_found_by_its_run(engine: Engine, night: int) -> None:
    other = add_run(engine, ["x"], name="other")
    for run_id, image_id in ((night, "a"), (other, "x")):
        settle(engine, lease(engine, run_id, image_id), [graded(image_id)])
    assert find_graded_uri(engine, night, "file:///") == "file:///a.jpg"
    assert find_graded_uri(engine, night, "file:///_") is None
    assert find_graded_uri(engine, night, "s3://eyes/") is None


def test_settling_a_released_image_clears_its_error(engine: Engine, night: int) -> None:
    held = lease(engine, night, "a")
    settle(engine, held, [], {"a": StorageError("down")})
    settle(engine, lease(engine, night, "a"), [graded("a")])
    assert row(engine, "a").error_code is None


def test_run_finishes_once_with_its_last_image(engine: Engine, night: int) -> None:
    first, second = lease(engine, night, "a", "b"), lease(engine, night, "c")
    settle(engine, first, [graded("a"), failed("b")])
    assert not finish_run(engine, night, report=True)
    settle(engine, second, [graded("c")])
    assert finish_run(engine, night, report=True)
    assert not finish_run(engine, night, report=True)
    assert run_row(engine, night).state == "finished"


def test_run_of_one_live_image_finishes_without_a_report(engine: Engine) -> None:
    add_model(engine)
    run_id = add_run(engine, ["a"], queue="live")
    settle(engine, lease(engine, run_id, "a"), [graded("a")])
    assert not finish_run(engine, run_id, report=True)
    assert run_row(engine, run_id).state == "finished"


def test_open_run_does_not_finish(engine: Engine) -> None:
    add_model(engine)
    run_id = add_run(engine, ["a"], state="open")
    settle(engine, lease(engine, run_id, "a"), [graded("a")])
    assert not finish_run(engine, run_id, report=True)
    assert run_row(engine, run_id).state == "open"


def test_first_lease_pins_the_model_and_another_model_is_refused(engine: Engine, night: int) -> None:
    add_model(engine, "fedcba9876543210")
    lease(engine, night, "a")
    assert run_row(engine, night).model_id == MODEL
    with pytest.raises(ModelError, match="run night belongs to model 0123456789abcdef"):
        lease(engine, night, "b", model_id="fedcba9876543210")
    b = row(engine, "b")
    assert (b.status, b.attempts, b.error_code) == ("queued", 0, "model_mismatch")


def test_images_of_a_cancelled_run_are_not_leased(engine: Engine) -> None:
    add_model(engine)
    run_id = add_run(engine, ["a"], state="cancelled")
    assert ids(lease(engine, run_id, "a")) == []


def test_unknown_run_is_a_message_error(engine: Engine) -> None:
    with pytest.raises(MessageError, match="no run 4711"):
        lease(engine, 4711, "a")


def test_image_of_another_run_is_not_leased(engine: Engine, night: int) -> None:
    add_run(engine, ["x"], name="other")
    assert ids(lease(engine, night, "a", "x")) == ["a"]


def test_model_is_registered_once(engine: Engine) -> None:
    register_model(engine, MODEL, "toy", {"k": 1})
    register_model(engine, MODEL, "toy", {"k": 1})
    run_id = add_run(engine, ["a"])
    assert ids(lease(engine, run_id, "a")) == ["a"]
