"""Readers who decide without the model's result: what is hidden from whom, and what the ledger records."""

import pytest
from sqlalchemy import Engine, select

from tests.unit.worker.console.accounts_and_runs import add_session_user, graded_run
from tests.unit.worker.console.test_decisions import SHOWN, image
from worker.console.decisions import ReviewForm, record_decision
from worker.console.disclosure import disclose, find_hidden_results, read_disclosure
from worker.console.filters import URGENCY, ImageFilter
from worker.console.image_detail import read_patient_images
from worker.console.image_list import find_neighbours, read_page
from worker.console.reader_policy import ReadingRule, read_rule, set_assistance, set_reader_count
from worker.console.sessions import SessionUser
from worker.console.withdrawals import withdraw_decision
from worker.core.vocabulary import Assistance, Role
from worker.ledger.database import read_transaction, write_transaction
from worker.ledger.review_schema import decisions
from worker.ledger.runs import Run
from worker.ledger.schema import images


@pytest.fixture
def run(engine: Engine) -> Run:
    return graded_run(engine, [2, 0, 4])


@pytest.fixture
def graders(engine: Engine) -> dict[str, SessionUser]:
    return {name: add_session_user(engine, name) for name in ("anna", "ben", "cleo")}


def hides(engine: Engine, user: SessionUser, readers: int = 1) -> bool:
    return read_disclosure(engine, image(engine), user, readers).hides_result


def decide(engine: Engine, user: SessionUser, given: int | None, *, readers: int, unassisted: bool) -> int:
    form = ReviewForm(given, "", SHOWN, 0, unassisted=unassisted)
    return record_decision(engine, "night", "00000", user, form, default_readers=readers)


def recorded(engine: Engine) -> list[tuple[str, bool | None]]:
    with read_transaction(engine) as connection:
        rows = connection.execute(select(decisions.c.reader, decisions.c.unassisted).order_by(decisions.c.decision_id))
        return [(row.reader, row.unassisted) for row in rows]


def test_second_reader_is_unassisted_by_default(engine: Engine, run: Run, graders: dict[str, SessionUser]) -> None:
    assert not hides(engine, graders["anna"], readers=2)
    decide(engine, graders["anna"], 2, readers=2, unassisted=False)
    assert hides(engine, graders["ben"])
    assert not hides(engine, graders["anna"])
    # No reason is needed, although the grade differs: to ask for one would disclose the model's.
    decide(engine, graders["ben"], 4, readers=2, unassisted=True)
    assert not hides(engine, graders["ben"])
    assert not hides(engine, graders["cleo"])
    assert recorded(engine) == [("anna", False), ("ben", True)]


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
def test_nothing_is_hidden_from_others_than_graders(
    engine: Engine, run: Run, graders: dict[str, SessionUser], role: Role
) -> None:
    set_assistance(engine, run, Assistance.NONE, "olga", default_readers=2)
    decide(engine, graders["anna"], 2, readers=2, unassisted=True)
    olga = add_session_user(engine, "olga", role)
    assert not hides(engine, olga)
    with read_transaction(engine) as connection:
        assert find_hidden_results(read_rule(connection, run.run_id, 1), olga) is None


def test_all_readers_of_a_run_can_be_unassisted_or_assisted(
    engine: Engine, run: Run, graders: dict[str, SessionUser]
) -> None:
    set_assistance(engine, run, Assistance.NONE, "olga", default_readers=2)
    assert hides(engine, graders["anna"])
    decide(engine, graders["anna"], 2, readers=2, unassisted=True)
    decide(engine, graders["ben"], 3, readers=2, unassisted=True)
    # The arbitrator sees the readers' grades, but not the model's.
    assert hides(engine, graders["cleo"])
    assert len(read_disclosure(engine, image(engine), graders["cleo"], 2).visible) == 2
    set_assistance(engine, run, Assistance.ALL, "olga", default_readers=2)
    assert not hides(engine, graders["cleo"])
    with read_transaction(engine) as connection:
        assert read_rule(connection, run.run_id, 1) == ReadingRule(2, Assistance.ALL)


def test_reading_after_an_undo_is_unassisted_only_if_the_result_was_not_seen(
    engine: Engine, run: Run, graders: dict[str, SessionUser]
) -> None:
    set_assistance(engine, run, Assistance.NONE, "olga", default_readers=1)
    anna = graders["anna"]
    first = decide(engine, anna, 3, readers=1, unassisted=True)
    withdraw_decision(engine, "night", "00000", anna, first, default_readers=1)
    assert disclose(engine, image(engine), anna, 1).hides_result
    second = decide(engine, anna, 2, readers=1, unassisted=True)
    assert not disclose(engine, image(engine), anna, 1).hides_result
    withdraw_decision(engine, "night", "00000", anna, second, default_readers=1)
    assert not hides(engine, anna)
    # Another window still hides the result: what counts is what the reader has seen.
    decide(engine, anna, 2, readers=1, unassisted=True)
    assert recorded(engine) == [("anna", True), ("anna", True), ("anna", False)]


def test_list_hides_results_and_leaves_images_out_that_a_filter_would_disclose(
    engine: Engine, run: Run, graders: dict[str, SessionUser]
) -> None:
    set_assistance(engine, run, Assistance.NONE, "olga", default_readers=1)
    anna = graders["anna"]
    decide(engine, anna, 2, readers=1, unassisted=True)
    disclose(engine, image(engine), anna, 1)
    with read_transaction(engine) as connection:
        hidden = find_hidden_results(read_rule(connection, run.run_id, 1), anna)

    def ids(image_filter: ImageFilter) -> list[str]:
        return [row.image_id for row in read_page(engine, run.run_id, image_filter, {}, hidden).rows]

    rows = read_page(engine, run.run_id, ImageFilter(), {}, hidden).rows
    assert [bool(row.hidden) for row in rows] == [False, True, True]
    assert ids(ImageFilter(grade=4)) == []
    assert ids(ImageFilter(referable=True)) == ["00000"]
    assert ids(ImageFilter(sort=URGENCY)) == ["00000"]
    assert ids(ImageFilter(q="0000")) == ["00000", "00001", "00002"]
    assert find_neighbours(engine, run.run_id, ImageFilter(), "00001", hidden) == ("00000", "00002")
    assert find_neighbours(engine, run.run_id, ImageFilter(sort=URGENCY), "00000", hidden) == (None, None)


def test_result_of_the_other_eye_is_hidden_too(engine: Engine, run: Run, graders: dict[str, SessionUser]) -> None:
    with write_transaction(engine) as connection:
        connection.execute(images.update().values(patient_id="P-1"))
    set_reader_count(engine, run, 2, "olga")
    other = ReviewForm(0, "", image(engine, "00001").model_result, 0)
    record_decision(engine, "night", "00001", graders["anna"], other, default_readers=2)
    with read_transaction(engine) as connection:
        hidden = find_hidden_results(read_rule(connection, run.run_id, 1), graders["ben"])
    assert hidden is not None
    found = read_patient_images(engine, image(engine), hidden.condition)
    assert {one.image_id: one.hides_result for one in found} == {"00001": True, "00002": False}
