import numpy as np
import pytest

from worker.imaging.steps.panel import GAP_PX, tile_images

COLOURS = ((200, 0, 0), (0, 200, 0), (0, 0, 200))


def flat(colour: tuple[int, int, int], size_px: int) -> np.ndarray:
    return np.full((size_px, size_px, 3), colour, np.uint8)


@pytest.mark.parametrize("size_px", [50, 100, 224])
def test_images_of_any_size_are_tiled_side_by_side(size_px: int) -> None:
    panel = tile_images([flat(colour, size_px) for colour in COLOURS], ["a", "b", "c"], 100)
    title_px = 12
    assert panel.shape == (title_px + 100 + GAP_PX, 3 * (100 + GAP_PX) + GAP_PX, 3)
    for place, colour in enumerate(COLOURS):
        left = GAP_PX + place * (100 + GAP_PX)
        assert (panel[title_px : title_px + 100, left : left + 100] == colour).all()
        assert (panel[title_px:, left - GAP_PX : left] == 255).all()


def test_titles_are_dark_on_white_above_their_image() -> None:
    panel = tile_images([flat((0, 0, 0), 100)] * 3, ["", "graded 3, reference 2", ""], 100)
    titles = panel[:12]
    assert titles.min() < 100
    assert (titles[:, : 100 + GAP_PX] == 255).all()
    assert (titles[:, 2 * (100 + GAP_PX) :] == 255).all()


def test_too_long_title_is_cut() -> None:
    panel = tile_images([flat((0, 0, 0), 100)] * 2, ["x" * 128, ""], 100)
    assert (panel[:12, 100 + GAP_PX :] == 255).all()
    assert panel[:12].min() < 255
