import pytest
from sqlalchemy import Engine

from tests.unit.producer.ledger_rows import MODEL, add_model, fail, grade, make_run, references
from worker.core.errors import RunError
from worker.core.manifests.image_reference import ImageReference
from worker.core.vocabulary import Grade, Status
from worker.evaluation.comparison import Comparison, compare
from worker.evaluation.labelled import find_graded_run
from worker.ledger.database import write_transaction
from worker.ledger.schema import runs


def compared(engine: Engine, first: dict[str, int | None], second: dict[str, int | None]) -> Comparison:
    """Compare two runs given by grade per image, None for ungradable; every reference grade is 2."""
    add_model(engine)
    for name, grades in {"first": first, "second": second}.items():
        run = make_run(
            engine, name, [ImageReference(f"file:///{i}.jpg", i, None, reference_grade=Grade(2)) for i in grades]
        )
        for image_id, found in grades.items():
            if found is None:
                fail(engine, run, image_id, "blurred", Status.UNGRADABLE)
            else:
                grade(engine, run, image_id, found)
    with write_transaction(engine) as connection:
        connection.execute(runs.update().values(model_id=MODEL))
    return compare(engine, find_graded_run(engine, "first"), find_graded_run(engine, "second"))


def test_changes_are_sorted_by_size(engine: Engine) -> None:
    found = compared(
        engine,
        {"a": 2, "b": 0, "c": 1, "d": 3, "e": 4, "only": 1},
        {"a": 2, "b": 4, "c": 2, "d": 2, "e": None, "other": 1, "another": 1},
    )
    assert (found.common, found.same, found.only_in_first, found.only_in_second) == (5, 1, 1, 2)
    assert [change.image_id for change in found.changes] == ["e", "b", "c", "d"]
    assert found.changes[0].model_dump() == {
        "image_id": "e", "reference": 2, "first": "graded", "second": "ungradable", "first_grade": 4,
        "second_grade": None,
    }  # fmt: skip
    assert found.matrix == [[0, 0, 0, 0, 1], [0, 0, 1, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]]


def test_mcnemar_test_is_exact(engine: Engine) -> None:
    # Only the first is correct on one image, only the second on five. Two-sided: 2 x (1 + 6) / 2^6.
    first: dict[str, int | None] = {"a": 2, "b": 0, "c": 1, "d": 0, "e": 1, "f": 0, "g": 3, "h": 0}
    second: dict[str, int | None] = {"a": 1, "b": 2, "c": 2, "d": 3, "e": 4, "f": 2, "g": 2, "h": 1}
    found = compared(engine, first, second)
    assert (found.labelled, found.only_first_right, found.only_second_right) == (8, 1, 5)
    assert found.mcnemar_p == pytest.approx(14 / 64)


def test_identical_runs_have_no_p_value_and_no_kappa(engine: Engine) -> None:
    found = compared(engine, {"a": 2, "b": 2}, {"a": 2, "b": 2})
    assert (found.same, found.changes, found.mcnemar_p, found.quadratic_weighted_kappa) == (2, [], None, None)


def test_images_without_grades_are_compared(engine: Engine) -> None:
    found = compared(engine, {"a": None}, {"a": None})
    assert (found.common, found.same, found.labelled) == (1, 1, 0)
    assert found.matrix == [[0] * 5] * 5


def test_runs_without_common_images_are_rejected(engine: Engine) -> None:
    with pytest.raises(RunError, match="first and second have no settled image in common"):
        compared(engine, {"a": 0}, {"b": 0})


def test_queued_images_are_not_compared(engine: Engine) -> None:
    add_model(engine)
    make_run(engine, "first", references("a"))
    with write_transaction(engine) as connection:
        connection.execute(runs.update().values(model_id=MODEL))
    run = find_graded_run(engine, "first")
    with pytest.raises(RunError):
        compare(engine, run, run)
