"""Unfamiliarity: photographs far from the training photographs are recognised, at a known rate of false alarms."""

import numpy as np
import pytest
from numpy.typing import NDArray

from worker.core.errors import ModelError
from worker.model.bundle.familiarity import (
    FALSE_ALARM_SHARE,
    Familiarity,
    calibrate_scale,
    learn_feature_space,
    parse_familiarity,
    serialise_familiarity,
)

CHANNELS = 200


def draw(count: int, seed: int, *, shift: float = 0.0) -> NDArray[np.float32]:
    """Features that vary along 64 directions by 1 to 9, and hardly along the 136 others; `shift` moves the latter."""
    random = np.random.default_rng(seed)
    deviations = np.concatenate([np.linspace(9, 1, 64), np.full(136, 0.01)])
    basis, _ = np.linalg.qr(np.random.default_rng(99).normal(size=(CHANNELS, CHANNELS)))
    features = random.normal(size=(count, CHANNELS)) * deviations
    features[:, 64:] += shift
    return np.asarray(features @ basis.T + 3, np.float32)


@pytest.fixture(scope="module")
def familiarity() -> Familiarity:
    return calibrate_scale([learn_feature_space(draw(1000, 0))], [draw(1000, 1)])


def measure(familiarity: Familiarity, features: NDArray[np.float32]) -> NDArray[np.float32]:
    return familiarity.unfamiliarity([features @ familiarity.spaces[0].directions])


def test_share_of_false_alarms_is_the_calibrated_one(familiarity: Familiarity) -> None:
    assert (measure(familiarity, draw(1000, 1)) > 1).mean() == pytest.approx(FALSE_ALARM_SHARE, abs=0.002)
    assert (measure(familiarity, draw(4000, 2)) > 1).mean() == pytest.approx(FALSE_ALARM_SHARE, abs=0.012)


def test_features_off_the_varied_directions_are_unfamiliar(familiarity: Familiarity) -> None:
    assert (measure(familiarity, draw(100, 3, shift=0.5)) > 1).all()


def test_features_far_along_a_varied_direction_are_unfamiliar(familiarity: Familiarity) -> None:
    near = draw(100, 4)
    assert (measure(familiarity, near + 4 * (near - near.mean(axis=0))) > 1).all()


def test_distance_of_several_networks_is_their_root_mean_square() -> None:
    spaces = [learn_feature_space(draw(500, seed)) for seed in (0, 1)]
    both = calibrate_scale(spaces, [draw(500, 2), draw(500, 3)])
    features = draw(5, 4)
    projections = [features @ space.directions for space in spaces]
    squares = [np.square(p - s.centre).sum(axis=1) for p, s in zip(projections, spaces, strict=True)]
    expected = np.sqrt((squares[0] + squares[1]) / 2) / both.scale
    assert both.unfamiliarity(projections) == pytest.approx(expected, rel=1e-5)


def test_file_keeps_the_distances(familiarity: Familiarity) -> None:
    read = parse_familiarity(serialise_familiarity(familiarity), [CHANNELS], source="f")
    features = draw(50, 5)
    assert measure(read, features) == pytest.approx(measure(familiarity, features), rel=1e-5)


def test_invalid_files_are_rejected(familiarity: Familiarity) -> None:
    data = serialise_familiarity(familiarity)
    with pytest.raises(ModelError, match=r"f: directions \(200, 128\) and centre .* do not fit its 100 features"):
        parse_familiarity(data, [100], source="f")
    with pytest.raises(ModelError, match="f: 2 arrays are missing or unknown, the first is 1/centre"):
        parse_familiarity(data, [CHANNELS, CHANNELS], source="f")
    with pytest.raises(ModelError, match="f: "):
        parse_familiarity(data[:-10], [CHANNELS], source="f")
    with pytest.raises(ModelError, match=r"f: scale is \[0.0\], one positive number is needed"):
        parse_familiarity(serialise_familiarity(Familiarity(familiarity.spaces, 0.0)), [CHANNELS], source="f")


def test_too_few_photographs_are_refused() -> None:
    with pytest.raises(ValueError, match="127 photographs, 128 are needed"):
        learn_feature_space(draw(127, 0))
