import pytest
from sqlalchemy import Engine

from tests.unit.worker.console.accounts_and_runs import add_session_user, graded_run
from worker.console.agreement import ModelAgreement, PairAgreement, compute_kappa, read_agreement
from worker.console.decisions import ReviewForm, record_decision
from worker.console.image_detail import read_image_detail
from worker.console.withdrawals import withdraw_decision


def test_kappa_by_hand() -> None:
    # Both give 0 and 4 once each: no disagreement; 8 expected by chance of 16 + 16 over 2 x 2 pairs.
    assert compute_kappa([(0, 0), (4, 4)]) == 1
    assert compute_kappa([(0, 4), (4, 0)]) == -1
    # Observed 1 of squared distance; by chance 1 x 2 x ... : ones 0, 1, 1; others 0, 1, 2.
    # Expected sum: (0+1+4) + (1+0+1) * 2 = 9, times 1/3 = 3. Kappa 1 - 1 / 3.
    assert compute_kappa([(0, 0), (1, 1), (1, 2)]) == pytest.approx(2 / 3)
    assert compute_kappa([(None, 3), (2, None)]) is None
    assert compute_kappa([(1, 1), (1, 1)]) is None


def test_agreement_of_readers_with_each_other_and_with_the_model(engine: Engine) -> None:
    run = graded_run(engine, [0, 1, 2, None])
    anna, ben, cleo = (add_session_user(engine, name) for name in ("anna", "ben", "cleo"))

    def decide(user: object, number: int, grade: int | None, seconds: float, *, unassisted: bool, seen: int = 0) -> int:
        found = read_image_detail(engine, "night", f"{number:05d}")
        assert found is not None
        form = ReviewForm(grade, "why", found.model_result, seen, unassisted=unassisted, seconds=seconds)
        return record_decision(engine, "night", found.image_id, user, form, default_readers=2)  # type: ignore[arg-type]

    for number, grade in enumerate((0, 1, 1, None)):
        decide(anna, number, grade, 10 + number, unassisted=False)
    undone = decide(ben, 0, 4, 99, unassisted=True)
    withdraw_decision(engine, "night", "00000", ben, undone, default_readers=2)
    for number, grade in enumerate((0, 1, 2, None)):
        last = decide(ben, number, grade, 20, unassisted=True)
        if number == 2:
            decide(cleo, 2, 2, 30, unassisted=False, seen=last)
    found = read_agreement(engine, run)
    assert found.pairs == [PairAgreement(("anna", "ben"), 4, 3, pytest.approx(2 / 3))]
    anna_, ben_, cleo_ = found.readers
    assert (anna_.images, anna_.arbitrations, anna_.withdrawn, anna_.seconds) == (4, 0, 0, 11.5)
    assert anna_.assisted == ModelAgreement(4, 3, pytest.approx(2 / 3))
    assert anna_.unassisted == ModelAgreement(0, 0, None)
    assert (ben_.images, ben_.withdrawn, ben_.seconds) == (4, 1, 20)
    assert ben_.unassisted == ModelAgreement(4, 4, 1)
    assert (cleo_.images, cleo_.arbitrations) == (0, 1)
