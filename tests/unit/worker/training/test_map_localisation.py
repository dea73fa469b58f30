"""The evidence of an output moves onto lesions, and the logits of photographs hardly change."""

import numpy as np
import pytest

from worker.training.map_localisation import LesionMaps, localise_maps

PHOTOGRAPHS, CELLS, CHANNELS, VARIED = 24, 16, 40, 4
RANDOM = np.random.default_rng(0)


def make_maps(count: int = PHOTOGRAPHS) -> LesionMaps:
    """Return photographs whose first channel is on lesions, and whose second is elsewhere in the field."""
    on_lesions = (RANDOM.random((count, CELLS)) < 0.3).astype(np.float32)
    on_lesions[:, 0] = 1
    features = RANDOM.random((count, CELLS, CHANNELS)).astype(np.float32) * 0.1
    features[..., 0] += on_lesions
    features[..., 1] += 1 - on_lesions
    return LesionMaps(features, on_lesions, np.ones((count, CELLS), np.float32))


def make_pooled(count: int = 400) -> np.ndarray:
    """Return pooled features that vary along few directions."""
    directions = RANDOM.normal(size=(VARIED, CHANNELS))
    return (RANDOM.normal(size=(count, VARIED)) @ directions).astype(np.float32)


KERNEL = np.concatenate([np.full(2, 0.5), RANDOM.normal(size=CHANNELS - 2) * 0.05]).astype(np.float32)


def test_energy_on_lesions_rises_also_on_photographs_that_were_left_out() -> None:
    found = localise_maps(KERNEL, make_maps(), make_pooled(), max_drift=0.05)
    assert found.held_out > found.before + 0.1
    assert found.after >= found.held_out - 0.02
    assert make_maps(8).measure_energy(found.kernel).mean() > found.before + 0.1


@pytest.mark.parametrize("drift", [0.005, 0.05])
def test_logits_of_training_photographs_change_by_at_most_the_drift(drift: float) -> None:
    pooled = make_pooled()
    found = localise_maps(KERNEL, make_maps(), pooled, max_drift=drift)
    before, after = pooled @ KERNEL, pooled @ found.kernel
    assert found.drift == pytest.approx(np.sqrt(np.mean((after - before) ** 2)) / before.std(), rel=1e-3)
    assert 0 < found.drift <= drift


def test_energy_is_the_share_of_the_positive_part_in_the_field() -> None:
    maps = LesionMaps(
        np.array([[[2.0], [1.0], [-5.0], [4.0]]], np.float32),
        np.array([[1, 0, 1, 0]], np.float32),
        np.array([[1, 1, 1, 0.5]], np.float32),
    )
    assert maps.measure_energy(np.ones(1, np.float32)) == pytest.approx([2 / 5])
    assert maps.measure_energy(-np.ones(1, np.float32)) == pytest.approx([1.0])
    assert maps.measure_energy(np.zeros(1, np.float32)) == pytest.approx([0.0])
