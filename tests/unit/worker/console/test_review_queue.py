import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, update

from tests.unit.worker.console.accounts_and_runs import add_session_user, graded_run
from worker.console.decisions import ReviewForm, record_decision
from worker.console.image_detail import read_image_detail
from worker.console.reader_policy import set_assistance
from worker.console.review_queue import (
    WorkLeft,
    count_reviews,
    count_work_left,
    lease_holder,
    lease_next_image,
    renew_lease,
)
from worker.console.sessions import SessionUser
from worker.core.vocabulary import Assistance, ReviewState, Role
from worker.ledger.database import epoch_now, write_transaction
from worker.ledger.review_schema import reviews
from worker.ledger.runs import Run
from worker.ledger.schema import gradings


def take(engine: Engine, run: Run, user: SessionUser, *, readers: int = 1, skip: str = "") -> str | None:
    return lease_next_image(engine, run, user, default_readers=readers, skip=skip)


def submit_review(
    engine: Engine, user: SessionUser, image_id: str, given: int | None, readers: int = 1, last_seen: int = 0
) -> int:
    found = read_image_detail(engine, "night", image_id)
    assert found is not None
    form = ReviewForm(given, "why", found.model_result, last_seen)
    return record_decision(engine, "night", image_id, user, form, default_readers=readers)


def test_most_urgent_image_is_first(engine: Engine) -> None:
    run = graded_run(engine, [0, 1, None, 0, 2, 3, 4, 2])
    with write_transaction(engine) as connection:
        connection.execute(update(gradings).where(gradings.c.image_id == "00003").values(p_ge2=0.45))
    anna = add_session_user(engine, "anna")
    served = []
    while (image_id := take(engine, run, anna)) is not None:
        served.append(image_id)
        submit_review(engine, anna, image_id, 2)
    #                 4        3        2, 2              ungradable  unsure   1        0
    assert served == ["00006", "00005", "00004", "00007", "00002", "00003", "00001", "00000"]
    assert count_reviews(engine, run.run_id) == {ReviewState.READ: 8}


def test_reader_gets_an_unfinished_image_again(engine: Engine) -> None:
    run = graded_run(engine, [2, 2])
    anna, ben = add_session_user(engine, "anna"), add_session_user(engine, "ben")
    assert take(engine, run, anna) == "00000"
    assert take(engine, run, anna) == "00000"
    assert take(engine, run, ben) == "00001"
    assert (lease_holder(engine, run.run_id, "00000"), lease_holder(engine, run.run_id, "00001")) == ("anna", "ben")


def test_skipped_image_goes_to_another_reader(engine: Engine) -> None:
    run = graded_run(engine, [4, 2])
    anna, ben = add_session_user(engine, "anna"), add_session_user(engine, "ben")
    assert take(engine, run, anna) == "00000"
    assert take(engine, run, anna, skip="00000") == "00001"
    assert take(engine, run, ben) == "00000"
    assert take(engine, run, anna, skip="00001") is None
    assert count_work_left(engine, run.run_id, anna) == WorkLeft(left=2, skipped=2, total=2)


def test_skipped_images_come_back_when_no_others_are_left(engine: Engine) -> None:
    run = graded_run(engine, [4, 3, 2, 0])
    anna = add_session_user(engine, "anna")
    assert take(engine, run, anna) == "00000"
    assert take(engine, run, anna, skip="00000") == "00001"
    assert take(engine, run, anna, skip="00001") == "00002"
    submit_review(engine, anna, "00002", 2)
    assert count_work_left(engine, run.run_id, anna) == WorkLeft(left=3, skipped=2, total=4)
    assert take(engine, run, anna) == "00003"
    submit_review(engine, anna, "00003", 0)
    assert take(engine, run, anna) == "00000"
    submit_review(engine, anna, "00000", 4)
    assert count_work_left(engine, run.run_id, anna) == WorkLeft(left=1, skipped=1, total=4)
    assert take(engine, run, anna) == "00001"
    submit_review(engine, anna, "00001", 3)
    assert count_work_left(engine, run.run_id, anna) == WorkLeft(left=0, skipped=0, total=4)
    assert take(engine, run, anna) is None


def test_order_does_not_disclose_the_model_result_to_unassisted_readers(engine: Engine) -> None:
    run = graded_run(engine, [0, 4, None, 2])
    set_assistance(engine, run, Assistance.NONE, "olga", default_readers=1)
    anna = add_session_user(engine, "anna")
    served = []
    while (image_id := take(engine, run, anna)) is not None:
        served.append(image_id)
        submit_review(engine, anna, image_id, 2)
    assert served == ["00000", "00001", "00002", "00003"]


def test_expired_lease_makes_the_image_available(engine: Engine) -> None:
    run = graded_run(engine, [2])
    anna, ben = add_session_user(engine, "anna"), add_session_user(engine, "ben")
    take(engine, run, anna)
    assert take(engine, run, ben) is None
    with write_transaction(engine) as connection:
        connection.execute(update(reviews).values(leased_until=epoch_now() - 1))
    assert renew_lease(engine, run.run_id, "00000", anna)
    assert take(engine, run, ben) is None
    with write_transaction(engine) as connection:
        connection.execute(update(reviews).values(leased_until=epoch_now() - 1))
    assert take(engine, run, ben) == "00000"
    assert not renew_lease(engine, run.run_id, "00000", anna)


def test_second_review_and_arbitration_go_to_other_readers(engine: Engine) -> None:
    run = graded_run(engine, [2, 4])
    anna, ben, cleo = (add_session_user(engine, name) for name in ("anna", "ben", "cleo"))
    for _ in range(2):
        image_id = take(engine, run, anna, readers=2)
        assert image_id is not None
        submit_review(engine, anna, image_id, 3, readers=2)
    assert take(engine, run, anna, readers=2) is None
    # Second readings follow the image ids: an order by the model's grade would disclose it.
    assert take(engine, run, ben, readers=2) == "00000"
    submit_review(engine, ben, "00000", 1, readers=2)
    assert take(engine, run, ben, readers=2) == "00001"
    assert take(engine, run, cleo, readers=2) == "00000"
    assert count_reviews(engine, run.run_id) == {ReviewState.HALF_READ: 1, ReviewState.DISPUTED: 1}


def test_failed_and_queued_images_are_not_assigned(engine: Engine) -> None:
    run = graded_run(engine, [2])
    with write_transaction(engine) as connection:
        connection.execute(
            update(gradings).values(
                status="failed", error_code="image_damaged", grade=None, overlay_key=None, saliency=None, referable=None
            )
        )
    assert take(engine, run, add_session_user(engine, "anna")) is None


@pytest.mark.parametrize("readers", [1, 2])
def test_concurrent_readers_never_lease_the_same_image(engine: Engine, readers: int) -> None:
    run = graded_run(engine, [2, None, 4, 0] * 3)
    graders = [add_session_user(engine, f"reader{number}", Role.GRADER) for number in range(4)]

    def read(user: SessionUser) -> list[str]:
        served = []
        until = time.monotonic() + 60
        while count_reviews(engine, run.run_id).get(ReviewState.READ) != 12 and time.monotonic() < until:
            # None for now: what is left is in others' hands, and one of them may want a second reading of it.
            if (image_id := take(engine, run, user, readers=readers)) is None:
                continue
            assert lease_holder(engine, run.run_id, image_id) == user.name
            served.append(image_id)
            submit_review(engine, user, image_id, 2, readers=readers)
        return served

    with ThreadPoolExecutor(len(graders)) as threads:
        served = Counter(image_id for some in threads.map(read, graders) for image_id in some)
    assert set(served.values()) == {readers}
    assert len(served) == 12
    assert count_reviews(engine, run.run_id) == {ReviewState.READ: 12}
