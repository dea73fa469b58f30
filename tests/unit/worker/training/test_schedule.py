"""The learning rate of each step follows the plan."""

import pytest

from worker.training.optimizer import schedule_rate
from worker.training.plan import DEFAULT_RECIPE, Plan

STEPS = 200


def rates(**changes: object) -> list[float]:
    """Return the rates at the first step, the end of the warm-up, halfway through the rest, and the last step."""
    plan = Plan.model_validate({"manifest_sha256": "0" * 64, "recipe": DEFAULT_RECIPE, "learning_rate": 0.1, **changes})
    rate = schedule_rate(plan, STEPS)
    return [float(rate(step)) for step in (0, 10, 105, STEPS)]


def test_learning_rate_decays_to_zero_by_a_cosine() -> None:
    assert rates() == pytest.approx([0.001, 0.1, 0.05, 0.0], abs=1e-6)


def test_constant_learning_rate_stays_after_the_warm_up() -> None:
    assert rates(schedule="constant") == pytest.approx([0.001, 0.1, 0.1, 0.1])


def test_without_a_warm_up_the_first_step_has_the_highest_rate() -> None:
    assert rates(warm_up_share=0.0)[0] == pytest.approx(0.1)
