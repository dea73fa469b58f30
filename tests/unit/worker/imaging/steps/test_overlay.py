from functools import partial

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from worker.core.errors import SettingsError
from worker.imaging.colour_maps import list_colour_maps, load_colour_map
from worker.imaging.contours import trace_contours
from worker.imaging.photograph import PreparedImage
from worker.imaging.saliency_levels import place_on_canvas
from worker.imaging.steps import overlay as steps
from worker.imaging.steps.overlay import encode_overlay, render_saliency_layer, render_scale
from worker.imaging.upsample import upsample_saliency

render_overlay = partial(steps.render_overlay, colours="notebook")


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
    np.testing.assert_array_equal(place_on_canvas(saliency, make_prepared(grey(4)), 1.0), [[0, 52, 178, 255]] * 4)
    np.testing.assert_array_equal(place_on_canvas(saliency, make_prepared(grey(4)), 0.5), [[0, 26, 89, 128]] * 4)


@pytest.mark.parametrize(("cells", "side", "tolerance"), [(8, 100, 0.51), (10, 512, 1.51), (7, 467, 1.51)])
def test_overlay_shows_the_map_that_the_pointing_game_evaluates(cells: int, side: int, tolerance: float) -> None:
    saliency = np.random.default_rng(1).random((cells, cells), np.float32)
    levels = place_on_canvas(saliency, make_prepared(grey(side)), 1.0)
    np.testing.assert_allclose(levels, 255 * upsample_saliency(saliency, side, side), atol=tolerance)


def test_saliency_fills_the_crop_box_and_is_low_beyond_it() -> None:
    levels = place_on_canvas(np.ones((7, 7), np.float32), make_prepared(grey(4), box=(1, 3, 1, 2)), 1.0)
    expected = np.zeros((4, 4))
    expected[1:3, 1] = 255
    np.testing.assert_array_equal(levels, expected)


def test_saliency_beyond_the_canvas_is_cut_off() -> None:
    # A box of 4 x 4 pixels, one per cell, around the last pixel of the first column; its lower left part is visible.
    saliency = np.zeros((4, 4), np.float32)
    saliency[2, 1] = 1
    levels = place_on_canvas(saliency, make_prepared(grey(4), box=(1, 5, -1, 3)), 1.0)
    expected = np.zeros((4, 4))
    expected[3, 0] = 255
    np.testing.assert_array_equal(levels, expected)


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
        SettingsError, match=f"unknown colour map '{name}'; available: warm, notebook, autumn, .*, viridis, winter"
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
    for colours in ("notebook", "warm", "viridis"):
        layer = render_saliency_layer(prepared, saliency, colours).astype(float)
        assert (layer[0, :, 3] == 0).all()
        share = layer[..., 3:] / 255
        blended = prepared.canvas * (1 - share) + layer[..., :3] * share
        assert np.abs(blended[1:] - steps.render_overlay(prepared, saliency, colours)[1:]).max() <= 1


def test_notebook_colours_increase_in_luminance_for_the_colour_blind() -> None:
    red, green, blue = load_colour_map("notebook").astype(float).T
    assert (np.diff(0.2126 * red + 0.7152 * green + 0.0722 * blue) > 0).all()


def test_warm_colours_increase_in_luminance_and_are_no_colours_of_blood() -> None:
    red, green, blue = load_colour_map("warm").astype(float).T
    assert (np.diff(0.2126 * red + 0.7152 * green + 0.0722 * blue) >= 0).all()
    assert (green / red > 0.2).all()


def test_map_is_transparent_where_it_is_low_and_thin_where_it_is_high() -> None:
    # Cells of 64 pixels: the middle ones of the map's rows are flat.
    saliency = np.repeat(np.array([[0.2, 0.2, 1.0, 1.0]], np.float32), 4, axis=0)
    prepared = make_prepared(grey(256))
    overlay = steps.render_overlay(prepared, saliency)
    np.testing.assert_array_equal(overlay[128, :64], grey(256)[128, :64])
    # At level 1 the tint has an opacity of 0.35: 100 * 0.65 + 0.35 * the last colour.
    expected = 0.65 * 100 + 0.35 * load_colour_map("warm")[255].astype(float)
    highest = place_on_canvas(saliency, prepared, 1.0)[128].argmax()
    assert np.abs(overlay[128, highest] - expected).max() <= 1


def test_lines_are_drawn_at_50_and_80_percent() -> None:
    saliency = np.array([[0, 1]], np.float32)
    levels = place_on_canvas(saliency, make_prepared(grey(512)), 1.0)[256]
    row = steps.render_overlay(make_prepared(grey(512)), saliency)[256]
    white = np.flatnonzero((row == 255).all(axis=1))
    assert white.size == 4  # two lines of two pixels
    for place, level in zip(white[::2], (0.5, 0.8), strict=True):
        assert levels[place] <= 255 * level <= levels[place + 1]
    assert (row[white[0] - 1] < 100).all()  # the casing darkens the photograph


@pytest.mark.parametrize("strength", [0.0, 0.1, 0.25])
def test_eye_without_evidence_looks_like_its_photograph(strength: float) -> None:
    prepared = make_prepared(grey(64))
    overlay = steps.render_overlay(prepared, np.eye(7, dtype=np.float32), strength=strength)
    np.testing.assert_array_equal(overlay[1:], prepared.canvas[1:])
    assert not render_saliency_layer(prepared, np.eye(7, dtype=np.float32), strength=strength)[..., 3].any()


def test_strength_is_shared_by_all_images_of_a_model() -> None:
    prepared, saliency = make_prepared(grey(256)), np.eye(4, dtype=np.float32)
    faint, strong = (steps.render_overlay(prepared, saliency, strength=one).astype(int) for one in (0.4, 1.0))
    assert 0 < np.abs(faint[1:] - 100).max() < np.abs(strong[1:] - 100).max()
    # The strength of a map changes nothing in the notebook's colours.
    weak = render_overlay(prepared, saliency, strength=0.1)
    np.testing.assert_array_equal(weak, render_overlay(prepared, saliency))


def test_map_whose_maximum_is_beyond_the_canvas_is_drawn() -> None:
    saliency = np.zeros((4, 4), np.float32)
    saliency[0, 0] = 1
    prepared = make_prepared(grey(64), box=(-64, 64, -64, 64))
    np.testing.assert_array_equal(steps.render_overlay(prepared, saliency)[1:], prepared.canvas[1:])


def test_contours_are_paths_in_thousandths_of_the_canvas() -> None:
    levels = np.zeros((100, 100), np.uint8)
    levels[20:41, 10:31] = 140  # above 50 %, below 80 %
    assert trace_contours(levels) == "M105 205l0 200 200 0 0-200z"
    assert trace_contours(np.zeros((100, 100), np.uint8)) == ""


def test_scale_runs_from_the_retina_to_the_strongest_tint_and_has_the_lines() -> None:
    scale = render_scale(101, 8)
    np.testing.assert_array_equal(scale[0, 0], steps.RETINA)
    white = np.flatnonzero((scale[0] == 255).all(axis=1))
    assert [place in white for place in (49, 80, 20)] == [True, True, False]
