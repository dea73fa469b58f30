"""From bytes to the model's input and the overlay's canvas."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from worker.core.errors import ImageDecodeError, ImageFormatError, ImageTooLargeError, Ungradable
from worker.imaging.headers.header import ImageLimits
from worker.imaging.photograph import PreparedImage
from worker.imaging.recipe import Recipe
from worker.imaging.steps.prepare import prepare_for_reading, prepare_image, prepare_stack_entry

ROOT = Path(__file__).parents[5]
SAMPLES = ROOT / "producer" / "demo" / "samples"
RECIPE = Recipe(
    input_size_px=224, input_range=(-2.0, 127 / 64), crop="lit_box", enhancement="graham", cut_to_circle=True
)
STACK = Recipe(input_size_px=64, input_range=(0.0, 1.0), crop="none", enhancement="none")


def prepare_bytes(data: bytes, overlay_size_px: int = 512, limits: ImageLimits | None = None) -> PreparedImage:
    return prepare_image(data, recipe=RECIPE, overlay_size_px=overlay_size_px, limits=limits or ImageLimits())


def textured_disc(height: int, width: int, x: int, y: int, radius: int) -> bytes:
    """A bright disc with enough fine detail to be gradable, as PNG."""
    noise = np.random.default_rng(0).integers(90, 150, (height, width, 3), np.uint8)
    mask = cv2.circle(np.zeros((height, width), np.uint8), (x, y), radius, 1, -1)
    # In OpenCV's order: blue, green, red.
    reddish = (noise * (0.4, 0.7, 1.0)).astype(np.uint8)
    return cv2.imencode(".png", reddish * mask[..., None])[1].tobytes()


def test_whole_field_fills_the_canvas() -> None:
    prepared = prepare_bytes(textured_disc(300, 400, 200, 150, 100), overlay_size_px=200)
    assert prepared.crop_box == (0, 200, 0, 200)
    assert (prepared.canvas.shape, prepared.canvas.dtype) == ((200, 200, 3), np.uint8)
    assert (prepared.enhanced.shape, prepared.enhanced.dtype) == ((224, 224, 3), np.uint8)
    # The inscribed circle covers pi / 4 of the square.
    assert prepared.field_mask.mean() == pytest.approx(np.pi / 4, abs=0.02)
    assert (prepared.canvas[prepared.field_mask] > 0).mean() > 0.98
    assert (prepared.canvas[~prepared.field_mask] > 0).mean() < 0.05


def test_cut_off_field_keeps_its_aspect_ratio_and_is_centred() -> None:
    # Rows 0 to 199, and columns 51 to 349 with more than 2 % of 200 pixels in the foreground: 200 x 299 in 299 x 299.
    prepared = prepare_bytes(textured_disc(200, 400, 200, 100, 150), overlay_size_px=299)
    assert prepared.crop_box == (49, 249, 0, 299)
    assert not prepared.canvas[:49].any()
    assert not prepared.canvas[249:].any()
    assert prepared.canvas[49].any()
    assert prepared.canvas[248].any()
    assert not prepared.field_mask[:49].any()
    assert not prepared.field_mask[249:].any()
    # In the middle row of the canvas the field extends from edge to edge; in the first row of the box it is the chord
    # of the circle 100 pixels above its centre: 2 sqrt(150² - 100²) = 223.6 pixels.
    assert prepared.field_mask[149].sum() == pytest.approx(299, abs=2)
    assert prepared.field_mask[49].sum() == pytest.approx(223.6, abs=4)


def test_crop_box_of_a_cut_off_field_extends_past_the_canvas() -> None:
    # One pixel of the image is one pixel of the canvas. The circle of radius 150 extends 50 pixels past the top and the
    # bottom of the image, which are at 49 and 249.
    recipe = RECIPE.model_copy(update={"crop": "field"})
    data = textured_disc(200, 400, 200, 100, 150)
    prepared = prepare_image(data, recipe=recipe, overlay_size_px=299, limits=ImageLimits())
    assert prepared.crop_box == pytest.approx((-1, 300, 0, 299), abs=2)
    lit_box = prepare_bytes(data, overlay_size_px=299)
    assert np.array_equal(prepared.canvas, lit_box.canvas)
    assert np.array_equal(prepared.field_mask, lit_box.field_mask)


def test_canvas_of_equal_size_has_the_same_pixels() -> None:
    recipe = RECIPE.model_copy(update={"crop": "none"})
    data = textured_disc(256, 256, 128, 128, 120)
    prepared = prepare_image(data, recipe=recipe, overlay_size_px=256, limits=ImageLimits())
    assert np.array_equal(prepared.canvas, cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB))


@pytest.mark.parametrize("name", sorted(path.name for path in SAMPLES.glob("IDRiD_*.jpg")))
def test_sample_photographs_are_prepared(name: str) -> None:
    prepared = prepare_bytes((SAMPLES / name).read_bytes())
    top, bottom, left, right = prepared.crop_box
    assert (left, right) == (0, 512)
    assert (top + bottom) / 2 == pytest.approx(256, abs=0.5)
    # The field of this camera is 616 pixels wide, a few more with glow, and cut off to 512 pixels of height.
    assert bottom - top == pytest.approx(512 * 512 / 616, abs=9)


def test_decoding_at_reduced_scale_stays_close_to_the_training_images() -> None:
    data = (ROOT / "tests" / "data" / "fundus" / "IDRiD_018.jpg").read_bytes()
    reduced = prepare_image(data, recipe=RECIPE, overlay_size_px=512, limits=ImageLimits())
    whole = prepare_image(data, recipe=RECIPE, overlay_size_px=2000, limits=ImageLimits())
    difference = np.abs(reduced.enhanced.astype(int) - whole.enhanced.astype(int))
    assert difference.mean() < 4


def test_extra_recipes_prepare_the_same_field() -> None:
    data = (SAMPLES / "IDRiD_138.jpg").read_bytes()
    plain = RECIPE.model_copy(update={"input_size_px": 300, "enhancement": "none"})
    both = prepare_image(data, recipe=RECIPE, extra_recipes=(plain,), overlay_size_px=512, limits=ImageLimits())
    for found, recipe in zip((both.enhanced, *both.extra_inputs), (RECIPE, plain), strict=True):
        alone = prepare_image(data, recipe=recipe, overlay_size_px=512, limits=ImageLimits())
        assert np.array_equal(found, alone.enhanced)


def test_black_frame_is_ungradable_and_text_is_not_an_image() -> None:
    with pytest.raises(Ungradable) as ungradable:
        prepare_bytes((SAMPLES / "black-frame.jpg").read_bytes())
    assert ungradable.value.code == "no_field"
    with pytest.raises(ImageFormatError):
        prepare_bytes((SAMPLES / "not-an-image.jpg").read_bytes())


def test_limits_are_enforced() -> None:
    with pytest.raises(ImageTooLargeError, match="= 394,752 pixels, limit 394,751"):
        prepare_bytes((SAMPLES / "IDRiD_138.jpg").read_bytes(), limits=ImageLimits(max_image_pixels=394_751))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_stack_entry_is_passed_to_the_model_unchanged(dtype: type) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    entry = levels if dtype is np.uint8 else levels.astype(np.float32) / np.float32(255)
    prepared = prepare_stack_entry(entry, recipe=STACK, overlay_size_px=64)
    assert prepared.enhanced is entry
    assert np.array_equal(prepared.canvas, levels)
    assert prepared.crop_box == (0, 64, 0, 64)


def test_field_mask_of_a_stack_entry_is_the_inscribed_circle() -> None:
    # Centre 1.5, radius 2: the corners of 4 x 4 pixels are 2.12 away, the others at most 1.58.
    entry = np.zeros((64, 64, 3), np.uint8)
    field_mask = prepare_stack_entry(entry, recipe=STACK, overlay_size_px=4).field_mask
    assert field_mask.astype(int).tolist() == [[0, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1], [0, 1, 1, 0]]


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (np.zeros((64, 32, 3), np.uint8), "entry is uint8 64 x 32 x 3, expected uint8 or float32 64 x 64 x 3"),
        (np.zeros((64, 64), np.float32), "entry is float32 64 x 64, expected"),
        (np.zeros((64, 64, 3), np.float64), "entry is float64 64 x 64 x 3, expected"),
    ],
)
def test_stack_entry_of_another_shape_or_dtype_is_refused(entry: NDArray[np.uint8], sentence: str) -> None:
    with pytest.raises(ImageFormatError, match=sentence):
        prepare_stack_entry(entry, recipe=STACK, overlay_size_px=64)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (np.nan, "values from nan to nan, expected 0 to 1"),
        (np.inf, "values from 0.5 to inf"),
        (-0.25, "values from -0.25 to 0.5"),
        (255.0, "values from 0.5 to 255"),
    ],
)
def test_stack_entry_out_of_range_is_reported_as_damage(value: float, sentence: str) -> None:
    entry = np.full((64, 64, 3), 0.5, np.float32)
    entry[3, 4, 1] = value
    with pytest.raises(ImageDecodeError, match=sentence):
        prepare_stack_entry(entry, recipe=STACK, overlay_size_px=64)


def prepare_reading(data: bytes, largest_side_px: int = 4096) -> PreparedImage:
    return prepare_for_reading(data, recipe=RECIPE, largest_side_px=largest_side_px, limits=ImageLimits())


def test_photograph_for_readers_keeps_each_pixel_of_the_field() -> None:
    # The field of radius 1000 spans rows 200 to 2200 and columns 500 to 2500; the box is found at a third of the size.
    data = textured_disc(2400, 3000, 1500, 1200, 1000)
    prepared = prepare_reading(data)
    side, *others = prepared.canvas.shape
    assert others == [side, 3]
    assert side == pytest.approx(2001, abs=9)
    top, bottom, left, right = prepared.crop_box
    whole = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    found = cv2.matchTemplate(whole, prepared.canvas[900:964, 900:964], cv2.TM_SQDIFF)
    _, _, (x, y), _ = cv2.minMaxLoc(found)
    crop = prepared.canvas[top:bottom, left:right]
    y, x = y - (900 - top), x - (900 - left)
    assert np.array_equal(crop, whole[y : y + bottom - top, x : x + right - left])


def test_photograph_for_readers_is_reduced_to_the_largest_side() -> None:
    prepared = prepare_reading(textured_disc(900, 1000, 500, 450, 400), largest_side_px=100)
    assert prepared.canvas.shape == (100, 100, 3)
    assert prepared.canvas[50, 50].min() > 20
    assert not prepared.canvas[0, 0].any()


def test_photograph_without_a_field_is_prepared_whole_for_readers() -> None:
    grey = cv2.imencode(".png", np.zeros((60, 80, 3), np.uint8))[1].tobytes()
    assert prepare_reading(grey).crop_box == (10, 70, 0, 80)


def test_map_of_a_photograph_for_readers_has_the_place_of_the_overlay() -> None:
    # Larger than FIELD_SIDE_PX, and cut off at the top: the crop of the model reaches past the canvas.
    data, recipe = textured_disc(2000, 2600, 1300, 900, 1100), RECIPE.model_copy(update={"crop": "field"})
    overlay = prepare_image(data, recipe=recipe, overlay_size_px=512, limits=ImageLimits())
    reading = prepare_for_reading(data, recipe=recipe, largest_side_px=512, limits=ImageLimits())
    assert reading.crop_box == pytest.approx(overlay.crop_box, abs=2)
    assert overlay.crop_box[0] < 0
    assert (reading.field_mask != overlay.field_mask).mean() < 0.01
