import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from worker.core.errors import SettingsError
from worker.imaging.photograph import PreparedImage
from worker.imaging.steps.overlay import (
    encode_overlay,
    list_colour_maps,
    load_colour_map,
    render_overlay,
    render_saliency_layer,
)
from worker.imaging.upsample import upsample_saliency

MAGENTA, CYAN = (255, 0, 255), (0, 255, 255)


def make_prepared(canvas: NDArray[np.uint8], box: tuple[int, int, int, int] | None = None) -> PreparedImage:
    """A prepared image whose field is the canvas without its first row."""
    side = canvas.shape[0]
    field_mask = np.ones((side, side), bool)
    field_mask[0] = False
    return PreparedImage(np.zeros((32, 32, 3), np.uint8), canvas, field_mask, box or (0, side, 0, side))


def grey(side: int, level: int = 100) -> NDArray[np.uint8]:
    return np.full((side, side, 3), level, np.uint8)


def test_low_is_magenta_and_high_is_cyan_at_half_opacity() -> None:
    saliency = np.array([[0, 1], [0, 1]], np.float32)
    overlay = render_overlay(make_prepared(grey(2)), saliency)
    # (100 + 255) / 2 is 177.5, which rounds to the even 178; (100 + 0) / 2 is 50.
    np.testing.assert_array_equal(overlay, [[[0, 0, 0], [0, 0, 0]], [[178, 50, 178], [50, 178, 178]]])


def test_intermediate_saliency_mixes_the_end_colours() -> None:
    # 1/5 of 255 is level 51: red 255 - 51, green 51, blue 255.
    saliency = np.array([[1, 1], [0.2, 0.2]], np.float32)
    overlay = render_overlay(make_prepared(grey(2)), saliency)
    np.testing.assert_array_equal(overlay[1], [[152, 76, 178]] * 2)


def test_saliency_is_interpolated_between_the_centres_of_its_cells() -> None:
    # Two cells over four columns, with centres at 0.5 and 2.5. The cubic gives -0.105, 0.227, 0.773 and 1.105; negative
    # values are clipped, and the maximum becomes 255.
    saliency = np.array([[0, 1]], np.float32)
    overlay = render_overlay(make_prepared(grey(4, 0)), saliency, opacity=1.0)
    np.testing.assert_array_equal(overlay[1, :, 1], [0, 52, 178, 255])


@pytest.mark.parametrize(("cells", "side", "tolerance"), [(8, 100, 0.51), (10, 512, 1.51), (7, 467, 1.51)])
def test_overlay_shows_the_map_that_the_pointing_game_evaluates(cells: int, side: int, tolerance: float) -> None:
    saliency = np.random.default_rng(1).random((cells, cells), np.float32)
    levels = render_overlay(make_prepared(grey(side, 0)), saliency, opacity=1.0)[1:, :, 1]
    np.testing.assert_allclose(levels, 255 * upsample_saliency(saliency, side, side)[1:], atol=tolerance)


def test_saliency_fills_the_crop_box_and_is_low_beyond_it() -> None:
    overlay = render_overlay(make_prepared(grey(4, 0), box=(1, 3, 1, 2)), np.ones((7, 7), np.float32), opacity=1.0)
    expected = np.full((4, 4, 3), MAGENTA)
    expected[0] = 0
    expected[1:3, 1] = CYAN
    np.testing.assert_array_equal(overlay, expected)


def test_saliency_beyond_the_canvas_is_cut_off() -> None:
    # A box of 4 x 4 pixels, one per cell, around the last pixel of the first column; its lower left part is visible.
    saliency = np.zeros((4, 4), np.float32)
    saliency[2, 1] = 1
    overlay = render_overlay(make_prepared(grey(4, 0), box=(1, 5, -1, 3)), saliency, opacity=1.0)
    expected = np.full((4, 4, 3), MAGENTA)
    expected[0] = 0
    expected[3, 0] = CYAN
    np.testing.assert_array_equal(overlay, expected)


def test_outside_the_field_is_black() -> None:
    overlay = render_overlay(make_prepared(grey(3)), np.ones((7, 7), np.float32))
    assert not overlay[0].any()
    assert overlay[1:].all(axis=-1).all()


def test_map_of_zeros_leaves_the_photograph_unchanged() -> None:
    canvas = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    overlay = render_overlay(make_prepared(canvas), np.zeros((7, 7), np.float32))
    np.testing.assert_array_equal(overlay[1:], canvas[1:])
    assert not overlay[0].any()


def test_inputs_are_not_modified() -> None:
    prepared, saliency = make_prepared(grey(3)), np.ones((7, 7), np.float32)
    overlay = render_overlay(prepared, saliency)
    overlay[:] = 7
    np.testing.assert_array_equal(prepared.canvas, grey(3))
    np.testing.assert_array_equal(saliency, np.ones((7, 7)))
    np.testing.assert_array_equal(render_overlay(prepared, np.zeros((7, 7), np.float32))[1:], grey(3)[1:])


def test_notebook_colours_run_from_magenta_to_cyan_in_256_steps() -> None:
    levels = np.arange(256)
    expected = np.stack([255 - levels, levels, np.full(256, 255)], axis=-1)
    np.testing.assert_array_equal(load_colour_map("notebook"), expected)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("spring", (255, 0, 255), (255, 255, 0)),
        ("jet", (0, 0, 128), (128, 0, 0)),
        ("bone", (0, 0, 0), (255, 255, 255)),
        ("viridis", (68, 1, 84), (253, 231, 37)),
    ],
)
def test_opencv_colour_maps_are_in_rgb(name: str, low: tuple[int, int, int], high: tuple[int, int, int]) -> None:
    colour_map = load_colour_map(name)
    assert np.abs(colour_map[[0, 255]].astype(int) - [low, high]).max() <= 1


@pytest.mark.parametrize("name", ["rainbows", "Jet", "", "spring2"])
def test_unknown_colour_map_lists_the_available_ones(name: str) -> None:
    with pytest.raises(
        SettingsError, match=f"unknown colour map '{name}'; available: notebook, autumn, .*, viridis, winter"
    ):
        load_colour_map(name)


def test_every_listed_colour_map_can_be_loaded() -> None:
    assert {load_colour_map(name).shape for name in list_colour_maps()} == {(256, 3)}


def test_png_is_lossless_and_in_rgb() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    encoded = encode_overlay(rgb, "png", 90)
    assert encoded.startswith(b"\x89PNG")
    decoded = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(decoded, rgb)


def test_jpeg_keeps_the_channel_order_and_shrinks_with_quality() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    rgb[:32] = (200, 60, 20)
    fine, coarse = encode_overlay(rgb, "jpeg", 95), encode_overlay(rgb, "jpeg", 40)
    assert fine.startswith(b"\xff\xd8\xff")
    assert len(coarse) < len(fine) / 2
    decoded = cv2.imdecode(np.frombuffer(fine, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.abs(decoded[8, 8].astype(int) - [200, 60, 20]).max() <= 3


def test_image_too_wide_for_jpeg_raises_value_error() -> None:
    with pytest.raises(ValueError, match=r"an image of shape \(1, 65501, 3\) cannot be encoded as jpeg"):
        encode_overlay(np.zeros((1, 65_501, 3), np.uint8), "jpeg", 90)


def test_saliency_layer_blended_with_the_canvas_equals_the_overlay() -> None:
    prepared = make_prepared(grey(8), box=(2, 8, 0, 8))
    saliency = np.linspace(0, 1, 49, dtype=np.float32).reshape(7, 7)
    colours = render_saliency_layer(prepared, saliency).astype(int)
    assert (colours[0, :, 3] == 0).all()
    assert (colours[1:, :, 3] == 255).all()
    blended = (prepared.canvas.astype(int) + colours[..., :3]) / 2
    assert np.abs(blended[1:] - render_overlay(prepared, saliency)[1:]).max() <= 0.5


def test_notebook_colours_increase_in_luminance_for_the_colour_blind() -> None:
    red, green, blue = load_colour_map("notebook").astype(float).T
    assert (np.diff(0.2126 * red + 0.7152 * green + 0.0722 * blue) > 0).all()
