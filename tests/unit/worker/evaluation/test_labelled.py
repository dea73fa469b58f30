import numpy as np
import pytest
from sqlalchemy import Engine

from tests.unit.producer.ledger_rows import MODEL, add_model, fail, grade, make_run, references
from worker.core.errors import RunError
from worker.core.manifests.image_reference import ImageReference
from worker.core.vocabulary import Eye, Grade, Status
from worker.evaluation.labelled import NOT_GRADED, find_graded_run, read_labelled
from worker.ledger.database import write_transaction
from worker.ledger.schema import runs


def fill(engine: Engine) -> None:
    add_model(engine)
    right = ImageReference("s3://eyes/b.jpg", "b", "Ann", Eye.RIGHT, Grade.SEVERE)
    left = ImageReference("s3://eyes/a.jpg", "a", "Ann", Eye.LEFT, Grade.NO_DR)
    alone = ImageReference("s3://eyes/c.jpg", "c", None, Eye.UNKNOWN, Grade.MILD)
    run = make_run(engine, "night", [right, left, alone, *references("unlabelled")])
    grade(engine, run, "b", 2)
    grade(engine, run, "unlabelled", 4)
    fail(engine, run, "a", "field_dark", Status.UNGRADABLE)
    with write_transaction(engine) as connection:
        connection.execute(runs.update().values(model_id=MODEL))


def test_images_with_a_reference_grade_are_sorted_by_id(engine: Engine) -> None:
    fill(engine)
    images = read_labelled(engine, find_graded_run(engine, "night"))
    assert images.ids.tolist() == ["a", "b", "c"]
    assert images.eyes.tolist() == ["left", "right", "unknown"]
    assert images.patients.tolist() == ["Ann", "Ann", ""]
    assert images.statuses.tolist() == ["ungradable", "graded", "queued"]
    assert images.reference.tolist() == [0, 3, 1]
    assert images.grades.tolist() == [NOT_GRADED, 2, NOT_GRADED]
    assert images.probabilities[1] == pytest.approx([0.9, 0.9, 0.9, 0.1, 0.1])
    assert np.isnan(images.probabilities[[0, 2]]).all()


def test_assessed_images_are_graded_or_ungradable(engine: Engine) -> None:
    fill(engine)
    images = read_labelled(engine, find_graded_run(engine, "night"))
    assert images.assessed.ids.tolist() == ["a", "b"]


def test_images_of_one_patient_are_one_cluster(engine: Engine) -> None:
    fill(engine)
    first, second, third = read_labelled(engine, find_graded_run(engine, "night")).clusters
    assert first == second != third


def test_run_without_reference_grades_is_rejected_with_a_fix(engine: Engine) -> None:
    add_model(engine)
    grade(engine, make_run(engine, "night", references("a")), "a", 0)
    with write_transaction(engine) as connection:
        connection.execute(runs.update().values(model_id=MODEL))
    with pytest.raises(RunError, match="no image of run night has a reference grade: enqueue it with --labels"):
        read_labelled(engine, find_graded_run(engine, "night"))


def test_unknown_run_and_run_without_grades_are_rejected(engine: Engine) -> None:
    with pytest.raises(RunError, match="no run 'dawn'"):
        find_graded_run(engine, "dawn")
    make_run(engine, "night", references("a"))
    with pytest.raises(RunError, match="run night has no graded image yet"):
        find_graded_run(engine, "night")
