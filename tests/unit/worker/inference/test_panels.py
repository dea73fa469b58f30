"""The figure of the original notebook, rendered with the real steps and the shipped model."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from worker.core.settings import Settings
from worker.imaging.steps.panel import GAP_PX
from worker.inference.panels import LEGEND_PX, render_panels

SAMPLES = Path(__file__).parents[4] / "producer" / "demo" / "samples"
SIDE_PX = 128
TITLE_PX = 12


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(overlay_size_px=SIDE_PX, decode_processes=1)


def test_each_photograph_has_a_row_and_an_ungraded_one_shows_why(settings: Settings) -> None:
    names = ["IDRiD_008.jpg", "not-an-image.jpg", "IDRiD_138.jpg"]
    warnings: list[str] = []
    data = render_panels(
        settings, [str(SAMPLES / name) for name in names], {"IDRiD_008": 4}, on_warning=warnings.append
    )
    figure = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    row_px = TITLE_PX + SIDE_PX + GAP_PX
    assert figure.shape == (3 * row_px + LEGEND_PX, 3 * (SIDE_PX + GAP_PX) + GAP_PX, 3)
    assert [warning.partition("]")[0] for warning in warnings] == ["not-an-image.jpg: [image_format"]
    changes = []
    for row in (0, 2):
        photograph, _, overlay = (
            figure[row * row_px + TITLE_PX :, GAP_PX + place * (SIDE_PX + GAP_PX) :][:SIDE_PX, :SIDE_PX]
            for place in range(3)
        )
        centre = photograph[SIDE_PX // 2 - 20 :, SIDE_PX // 2 - 20 :][:40, :40].reshape(-1, 3).mean(axis=0)
        assert centre[0] > 2 * centre[2]  # a retina is red
        changes.append((np.abs(overlay - photograph).max(axis=2) > 20).mean())
    assert changes[0] > 0.02  # lines and tint over the eye with proliferative retinopathy
    assert changes[1] < 0.015  # nothing over the healthy one, but the border of the field
    assert (figure[-LEGEND_PX + 8, GAP_PX] < 200).any()
    assert figure[row_px + TITLE_PX : 2 * row_px - GAP_PX, GAP_PX : GAP_PX + SIDE_PX].max() == 0
