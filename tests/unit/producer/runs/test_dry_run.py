import pytest
from sqlalchemy import Engine

from producer.runs.dry_run import dry_run_enqueue
from producer.runs.lifecycle import RunRequest
from tests.unit.producer.ledger_rows import make_run, references
from worker.core.errors import RunError, SourceError
from worker.core.manifests.image_reference import ImageReference
from worker.ledger.runs import list_runs

REQUEST = RunRequest(name="night", source="test")


def ignore_progress(found: int, new: int) -> None:
    """Do nothing."""


def test_dry_run_of_a_new_run_writes_nothing(engine: Engine) -> None:
    given = references("a", "b", "a")

    result = dry_run_enqueue(engine, REQUEST, iter(given), ignore_progress)

    assert (result.resumes, result.found, result.new, result.first) == (False, 3, 2, tuple(given))
    assert list_runs(engine, 1) == []


def test_dry_run_of_an_existing_run_counts_new_images(engine: Engine) -> None:
    make_run(engine, "night", references("a", "b"))
    make_run(engine, "other", references("c"))

    result = dry_run_enqueue(engine, REQUEST, iter(references("a", "c", "d")), ignore_progress)

    assert (result.resumes, result.found, result.new) == (True, 3, 2)


def test_repeated_image_in_a_later_batch_is_detected(engine: Engine) -> None:
    names = [f"i{number}" for number in range(2048)]

    assert dry_run_enqueue(engine, REQUEST, iter(references(*names, "i0")), ignore_progress).new == 2048


def test_conflict_in_a_later_batch_is_detected(engine: Engine) -> None:
    given = [*references(*(f"i{number}" for number in range(2048))), ImageReference("file:///other.jpg", "i0")]

    with pytest.raises(SourceError, match=r"'i0' is used for both file:///i0.jpg and file:///other.jpg"):
        dry_run_enqueue(engine, REQUEST, iter(given), ignore_progress)


def test_dry_run_refuses_the_same_requests_as_enqueue(engine: Engine) -> None:
    with pytest.raises(RunError, match="no model 'x'"):
        dry_run_enqueue(engine, RunRequest(name="night", source="test", model_id="x"), iter([]), ignore_progress)
