"""Strength of a saliency map."""

import pytest

from worker.core.predictions import Evidence


@pytest.mark.parametrize(("logits", "scale", "strength"), [(4.5, 18.0, 0.25), (20.0, 18.0, 1.0), (0.3, None, 1.0)])
def test_strength_is_the_share_of_the_scale(logits: float, scale: float | None, strength: float) -> None:
    assert Evidence(logits, scale).strength == strength
