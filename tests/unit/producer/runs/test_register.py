from dataclasses import replace
from datetime import date

import pytest
from sqlalchemy import Engine

from producer.runs.cancel import cancel
from producer.runs.lifecycle import RunRequest, open_run, seal_run
from producer.runs.register import index_by_image_id, register_batch
from tests.unit.producer.ledger_rows import change, database_now, image_of, make_night, make_run, references, rows_of
from worker.core.errors import RunError, SourceError
from worker.core.manifests.image_reference import ImageReference
from worker.core.vocabulary import Eye, Grade, RunState, Status
from worker.ledger.runs import Run, find_run

SHA = "0" * 64


@pytest.fixture
def run(engine: Engine) -> Run:
    return open_run(engine, RunRequest(name="night", source="test"), default_chunk_size=32)[0]


def register(engine: Engine, run: Run, *batch: ImageReference, position: int = 0) -> tuple[str, ...]:
    return register_batch(engine, run, batch, position=position, resend_after_s=60)


def test_new_grading_is_queued_and_due_later(engine: Engine, run: Run) -> None:
    before = database_now(engine)

    assert register(engine, run, *references("a")) == ("a",)

    row = rows_of(engine, run)["a"]
    assert (row.status, row.attempts, row.lease_token, row.settled_at) == ("queued", 0, None, None)
    assert before + 60 <= row.due_at <= database_now(engine) + 60


def test_image_is_stored_unchanged(engine: Engine, run: Run) -> None:
    taken = date(2026, 11, 28)
    register(engine, run, ImageReference("s3://clinic/a.jpg", "a", "p-1", Eye.LEFT, Grade.SEVERE, SHA, "NW400", taken))

    image = image_of(engine, "a")
    assert (image.uri, image.patient_id, image.eye, image.reference_grade, image.sha256) == (
        "s3://clinic/a.jpg", "p-1", "left", 3, SHA,
    )  # fmt: skip
    assert (image.source, image.study_date) == ("NW400", taken)


def test_positions_continue_without_gaps(engine: Engine, run: Run) -> None:
    register(engine, run, *references("c", "a"))

    new = register(engine, run, *references("a", "d", "c", "b"), position=2)

    assert new == ("d", "b")
    assert {image_id: row.position for image_id, row in rows_of(engine, run).items()} == {
        "c": 0,
        "a": 1,
        "d": 2,
        "b": 3,
    }


def test_registering_again_adds_nothing(engine: Engine, run: Run) -> None:
    register(engine, run, *references("a", "b"))
    before = rows_of(engine, run)

    assert register(engine, run, *references("a", "b"), position=2) == ()
    assert rows_of(engine, run) == before


def test_reference_listed_twice_is_one_image(engine: Engine, run: Run) -> None:
    assert register(engine, run, *references("a", "a")) == ("a",)


def test_new_attributes_are_added_and_known_ones_kept(engine: Engine, run: Run) -> None:
    (plain,) = references("a")
    register(engine, run, replace(plain, patient_id="p-1", eye=Eye.RIGHT, source="NW400"))

    register(engine, run, replace(plain, reference_grade=Grade.NO_DR, sha256=SHA, study_date=date(2026, 11, 28)))

    image = image_of(engine, "a")
    assert (image.patient_id, image.eye, image.reference_grade, image.sha256) == ("p-1", "right", 0, SHA)
    assert (image.source, image.study_date) == ("NW400", date(2026, 11, 28))


def test_batch_with_a_uri_conflict_in_the_ledger_is_refused(engine: Engine, run: Run) -> None:
    register(engine, run, ImageReference("file:///a.jpg", "a"))

    with pytest.raises(SourceError, match=r"'a' is file:///a.jpg in the ledger and file:///b.jpg in the source"):
        register(
            engine, run, ImageReference("file:///new.jpg", "new"), ImageReference("file:///b.jpg", "a"), position=1
        )
    assert list(rows_of(engine, run)) == ["a"]


def test_image_id_with_another_uri_in_the_batch_is_refused() -> None:
    with pytest.raises(SourceError, match=r"'a' is used for both file:///a.jpg and file:///b.jpg"):
        index_by_image_id([ImageReference("file:///a.jpg", "a"), ImageReference("file:///b.jpg", "a")])


def test_same_image_may_be_in_many_runs(engine: Engine) -> None:
    first = make_run(engine, "one", references("a"))
    second = make_run(engine, "two", references("a"))

    assert list(rows_of(engine, first)) == list(rows_of(engine, second)) == ["a"]


def test_cancelled_run_accepts_no_images(engine: Engine, run: Run) -> None:
    cancel(engine, "night")

    with pytest.raises(RunError, match="run night was cancelled while images were being registered"):
        register(engine, run, *references("a"))
    assert rows_of(engine, run) == {}


def test_run_sealed_by_another_producer_reopens(engine: Engine, run: Run) -> None:
    assert seal_run(engine, run) == RunState.FINISHED

    register(engine, run, *references("a"))

    assert find_run(engine, "night").state == RunState.OPEN


def test_nightly_run_skips_images_of_earlier_nights(engine: Engine) -> None:
    first = make_night(engine, 1, references("graded", "cancelled"))
    change(engine, first, "cancelled", status=Status.CANCELLED, settled_at=first.created_at)
    make_run(engine, "by-hand", references("by-hand"))

    second = make_night(engine, 2, references("graded", "cancelled", "by-hand", "new"))

    assert list(rows_of(engine, second)) == ["cancelled", "by-hand", "new"]


def test_manual_run_accepts_images_of_nights(engine: Engine) -> None:
    make_night(engine, 1, references("a"))

    assert list(rows_of(engine, make_run(engine, "by-hand", references("a")))) == ["a"]


def test_batch_of_thousands_keeps_its_order(engine: Engine, run: Run) -> None:
    names = [f"{(7919 * number) % 3001:04d}" for number in range(3001)]

    assert register(engine, run, *references(*names)) == tuple(names)
    assert list(rows_of(engine, run)) == names
