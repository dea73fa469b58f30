import pytest
from sqlalchemy import Engine

from producer.runs.cancel import cancel
from producer.runs.lifecycle import RunRequest, open_run, seal_run
from tests.unit.producer.ledger_rows import MODEL, add_model, grade, make_run, references, rows_of
from worker.core.errors import RunError
from worker.core.vocabulary import Precision, Queue, RunKind, RunState
from worker.ledger.runs import Run, find_run, list_runs


def opened(engine: Engine, name: str = "night", **request: object) -> Run:
    return open_run(engine, RunRequest(name=name, source="/photos", **request), default_chunk_size=32)[0]


def test_new_run_has_the_defaults(engine: Engine) -> None:
    run = opened(engine)

    assert (run.name, run.source, run.kind, run.state) == ("night", "/photos", RunKind.MANUAL, RunState.OPEN)
    assert (run.queue, run.chunk_size, run.model_id, run.sealed_at) == (Queue.BULK, 32, None, None)


def test_empty_run_finishes_when_it_is_sealed(engine: Engine) -> None:
    assert seal_run(engine, opened(engine)) == RunState.FINISHED

    run = find_run(engine, "night")
    assert run.sealed_at is not None
    assert run.finished_at is not None


def test_run_with_queued_images_runs_when_it_is_sealed(engine: Engine) -> None:
    run = make_run(engine, "night", references("a"))

    assert (run.state, run.finished_at) == (RunState.RUNNING, None)


def test_finished_run_reopens_and_continues_its_positions(engine: Engine) -> None:
    add_model(engine)
    first = make_run(engine, "night", references("a", "b", "c"))
    for image_id in rows_of(engine, first):
        grade(engine, first, image_id, 0)
    assert seal_run(engine, opened(engine)) == RunState.FINISHED

    run, position = open_run(engine, RunRequest(name="night", source="/other"), default_chunk_size=64)

    assert (run.run_id, run.state, run.finished_at) == (first.run_id, RunState.OPEN, None)
    assert (run.source, run.chunk_size, position) == ("test", 2, 3)


def test_chunk_size_of_an_existing_run_may_change(engine: Engine) -> None:
    opened(engine)

    assert opened(engine, chunk_size=7).chunk_size == 7


def test_cancelled_run_is_refused(engine: Engine) -> None:
    cancel(engine, opened(engine).name)

    with pytest.raises(RunError, match="run night is cancelled: choose another name"):
        opened(engine)


def test_contradiction_is_refused(engine: Engine) -> None:
    add_model(engine)
    add_model(engine, "fedcba9876543210")
    opened(engine, queue=Queue.BULK, model_id=MODEL)

    assert opened(engine, queue=Queue.BULK, model_id=MODEL).model_id == MODEL
    with pytest.raises(RunError, match="run night has queue bulk, not live"):
        opened(engine, queue=Queue.LIVE)
    with pytest.raises(RunError, match=f"run night has model {MODEL}, not fedcba9876543210"):
        opened(engine, model_id="fedcba9876543210")
    with pytest.raises(RunError, match="run night has kind manual, not nightly"):
        opened(engine, kind=RunKind.NIGHTLY)


def test_required_precision_is_that_of_the_creation(engine: Engine) -> None:
    assert opened(engine).precision is None
    with pytest.raises(RunError, match="run night was created for every precision, not for float32"):
        opened(engine, precision=Precision.FLOAT32)
    assert opened(engine, "exact", precision=Precision.FLOAT32).precision == "float32"
    assert opened(engine, "exact").precision == "float32"
    with pytest.raises(RunError, match="run exact was created for float32, not for int8"):
        opened(engine, "exact", precision=Precision.INT8)


def test_model_may_be_named_later(engine: Engine) -> None:
    add_model(engine)
    opened(engine)

    assert opened(engine, model_id=MODEL).model_id == MODEL


def test_unknown_model_is_refused_with_the_known_ones(engine: Engine) -> None:
    with pytest.raises(RunError, match="no model 'x'; no worker has registered a model yet"):
        opened(engine, model_id="x")
    add_model(engine)
    with pytest.raises(RunError, match=f"no model 'x'; known models are {MODEL}"):
        opened(engine, model_id="x")


@pytest.mark.parametrize("name", ["", "a b", "../etc", "-x", "a/b", "night\n", "x" * 129])
def test_malformed_name_is_refused(engine: Engine, name: str) -> None:
    with pytest.raises(RunError, match="must be 1 to 128 letters"):
        opened(engine, name)


def test_unknown_run_is_refused_with_the_latest_ones(engine: Engine) -> None:
    with pytest.raises(RunError, match="no run 'day'; the ledger has no runs yet"):
        find_run(engine, "day")
    for name in ("one", "two"):
        opened(engine, name)
    with pytest.raises(RunError, match="no run 'day'; the latest runs are two, one"):
        find_run(engine, "day")
    assert [run.name for run in list_runs(engine, 1)] == ["two"]
