"""`plan.json` keeps its keys, whatever the names in Python."""

import json

from worker.training.plan import DEFAULT_RECIPE, Plan


def test_plan_is_written_and_read_with_its_published_keys() -> None:
    plan = Plan(manifest_sha256="0" * 64, recipe=DEFAULT_RECIPE, ema_decay=0.9, interpolation_share=0.3)
    written = json.loads(plan.to_json())
    assert (written["averaging"], written["initial_share"]) == (0.9, 0.3)
    assert not {"ema_decay", "interpolation_share"} & written.keys()
    assert Plan.model_validate(written) == plan


def test_difference_is_described_with_the_published_key() -> None:
    first, second = (Plan(manifest_sha256="0" * 64, recipe=DEFAULT_RECIPE, ema_decay=decay) for decay in (0.9, 0.99))
    assert first.first_difference(second) == "averaging is 0.9, it was 0.99"
    assert first.first_difference(first) is None
