"""Randomised layers lose their trained weights; the others are unchanged."""

import numpy as np
import pytest

from tests.unit.worker.model.networks import make_bundle, random_weights
from worker.evaluation.saliency.weight_randomisation import STAGES, randomise_weights
from worker.model.bundle.bundle import Bundle
from worker.model.bundle.ensemble import Ensemble, EnsembleManifest, Member

BUNDLE = make_bundle(random_weights())
LAYERS = list(dict.fromkeys(name.rpartition("/")[0] for name in BUNDLE.weights))


def changed(before: Bundle, after: Bundle) -> set[str]:
    """Return the layers with a changed weight."""
    return {
        name.rpartition("/")[0]
        for name, array in before.weights.items()
        if not np.array_equal(array, after.weights[name])
    }


@pytest.mark.parametrize("share", STAGES.values())
def test_head_and_last_layers_are_randomised(share: float) -> None:
    after = randomise_weights(BUNDLE, share, 0)
    assert isinstance(after, Bundle)
    backbone = LAYERS[:-1]
    assert LAYERS[-1] == "head"
    assert changed(BUNDLE, after) == {"head", *backbone[round(len(backbone) * (1 - share)) :]}


def test_kernels_keep_their_spread_and_normalisation_stays_consistent() -> None:
    after = randomise_weights(BUNDLE, 1.0, 0).weights  # type: ignore[union-attr]
    before = BUNDLE.weights
    name = "conv5_block16_1_conv/kernel"
    assert after[name].std() == pytest.approx(before[name].std(), rel=0.02)
    assert abs(np.corrcoef(after[name].ravel(), before[name].ravel())[0, 1]) < 0.02
    pairs = {
        frozenset(zip(weights["bn/gamma"].tolist(), weights["bn/moving_variance"].tolist(), strict=True))
        for weights in (before, after)
    }
    assert len(pairs) == 1


def test_result_is_a_function_of_the_seed() -> None:
    first, again, other = (randomise_weights(BUNDLE, 1.0, seed) for seed in (0, 0, 1))
    assert changed(first, again) == set()  # type: ignore[arg-type]
    assert len(changed(first, other)) == len(LAYERS)  # type: ignore[arg-type]


def test_every_member_of_an_ensemble_is_randomised() -> None:
    members = (Member(manifest=BUNDLE.manifest), Member(manifest=BUNDLE.manifest))
    both = Ensemble(EnsembleManifest(name="both", members=members), (BUNDLE, BUNDLE))
    after = randomise_weights(both, 0.0, 0)
    assert isinstance(after, Ensemble)
    assert [changed(BUNDLE, network) for network in after.networks] == [{"head"}, {"head"}]
    assert changed(*after.networks) == {"head"}
