"""Degrade photographs until they are ungradable, and generate images of something else."""

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
import sklearn.datasets
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Random = np.random.Generator


def blur(rgb: Picture, random: Random) -> Picture:
    """Defocus: Gaussian blur of 2.5 to 5% of the height, at least the radius of the optic disc."""
    return np.asarray(cv2.GaussianBlur(rgb, (0, 0), len(rgb) * random.uniform(0.025, 0.05)), np.uint8)


def blur_by_motion(rgb: Picture, random: Random) -> Picture:
    """Motion blur along a line of 15 to 25% of the height."""
    length = int(len(rgb) * random.uniform(0.15, 0.25)) | 1
    line = np.zeros((length, length), np.float32)
    cv2.line(line, *_line_ends(length, random.uniform(0, np.pi)), 1)
    return np.asarray(cv2.filter2D(rgb, -1, line / line.sum()), np.uint8)


def darken(rgb: Picture, random: Random) -> Picture:
    """No flash: 3 to 10% of the light, with sensor noise."""
    dark = rgb * random.uniform(0.03, 0.10) + random.normal(0, 2, rgb.shape)
    return np.clip(dark, 0, 255).astype(np.uint8)


def overexpose(rgb: Picture, random: Random) -> Picture:
    """Too strong a flash: 4 to 8 times the light."""
    return np.clip(rgb * random.uniform(4, 8), 0, 255).astype(np.uint8)


def add_glare(rgb: Picture, random: Random) -> Picture:
    """Reflection of the flash over at least half of the height, white in its centre."""
    height, width = rgb.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    middle_y, middle_x = height * random.uniform(0.35, 0.65), width * random.uniform(0.35, 0.65)
    distance = np.hypot(y - middle_y, x - middle_x) / height
    veil = np.clip(1.5 - distance / random.uniform(0.3, 0.4), 0, 1)[..., None]
    foreground = rgb.max(axis=2, keepdims=True) > 15
    return np.where(foreground, rgb * (1 - veil) + 255 * veil, rgb).astype(np.uint8)


def add_haze(rgb: Picture, random: Random) -> Picture:
    """Cataract: 4 to 8% of the contrast and half of the sharpness."""
    foreground = rgb.max(axis=2, keepdims=True) > 15
    colour = rgb[foreground[..., 0]].mean(axis=0)
    soft = cv2.GaussianBlur(rgb, (0, 0), len(rgb) / 150).astype(np.float32)
    return np.where(foreground, colour + (soft - colour) * random.uniform(0.04, 0.08), rgb).astype(np.uint8)


def crop_half(rgb: Picture, random: Random) -> Picture:
    """Cut off at one side: at most half of the field."""
    share = random.uniform(0.35, 0.5)
    rotated = np.rot90(rgb, random.integers(4))
    rows = np.flatnonzero((rotated.max(axis=2) > 15).mean(axis=1) > 0.02)
    top, bottom = (int(rows[0]), int(rows[-1])) if len(rows) else (0, len(rotated))
    return np.ascontiguousarray(rotated[: top + max(8, int((bottom - top) * share))])


def crop_middle(rgb: Picture, random: Random) -> Picture:
    """The middle third only, without the border of the field."""
    height, width = rgb.shape[:2]
    side = int(min(height, width) * random.uniform(0.25, 0.4))
    top, left = (int((size - side) * random.uniform(0.4, 0.6)) for size in (height, width))
    return np.ascontiguousarray(rgb[top : top + side, left : left + side])


DEGRADATIONS: dict[str, Callable[[Picture, Random], Picture]] = {
    "blur": blur,
    "motion": blur_by_motion,
    "darkness": darken,
    "over-exposure": overexpose,
    "glare": add_glare,
    "haze": add_haze,
    "half of the field": crop_half,
    "middle alone": crop_middle,
}


def other_images(folders: list[Path], random: Random) -> Iterator[tuple[str, Picture]]:
    """Yield images other than fundus photographs, by kind: whole, with a round mask, and synthetic.

    folders: image folders, in addition to the sample images of scikit-learn and matplotlib.
    """
    shipped = [Path(sklearn.datasets.__file__).parent / "images", Path(mpl.get_data_path(), "sample_data")]
    for folder in [*shipped, *folders]:
        for path in sorted(folder.iterdir()):
            picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
            if picture is not None and min(picture.shape[:2]) >= 100:
                yield "something else", np.asarray(picture, np.uint8)
                for _ in range(4):
                    yield "something else, round", _crop_to_circle(np.asarray(picture, np.uint8), random)
    for _ in range(10):
        for picture in _synthetic(random):
            yield "synthetic", picture
            yield "synthetic, round", _mask_circle(picture)


def _crop_to_circle(rgb: Picture, random: Random) -> Picture:
    side = int(min(rgb.shape[:2]) * random.uniform(0.5, 1))
    top, left = (int(random.integers(size - side + 1)) for size in rgb.shape[:2])
    return _mask_circle(np.asarray(cv2.resize(rgb[top : top + side, left : left + side], (512, 512)), np.uint8))


def _mask_circle(rgb: Picture) -> Picture:
    side = len(rgb)
    mask = np.zeros((side, side, 1), np.uint8)
    cv2.circle(mask, (side // 2, side // 2), int(side * 0.48), 1, -1)
    return rgb * mask


def _synthetic(random: Random, side: int = 512) -> Iterator[Picture]:
    y, x = np.mgrid[:side, :side] / side
    colour = random.integers(60, 220, 3)
    yield np.broadcast_to(colour, (side, side, 3)).astype(np.uint8)
    yield random.integers(0, 256, (side, side, 3), dtype=np.uint8)
    stripes = np.sin(2 * np.pi * random.uniform(4, 40) * (x + random.uniform(-1, 1) * y))
    yield (colour * (0.6 + 0.4 * stripes[..., None])).clip(0, 255).astype(np.uint8)
    board = ((x * random.integers(4, 30)).astype(int) + (y * random.integers(4, 30)).astype(int)) % 2
    yield (colour * (0.3 + 0.7 * board[..., None])).clip(0, 255).astype(np.uint8)
    clouds = cv2.GaussianBlur(random.normal(0, 1, (side, side, 3)), (0, 0), random.uniform(3, 30))
    yield (128 + 60 * clouds / clouds.std()).clip(0, 255).astype(np.uint8)


def _line_ends(length: int, angle: float) -> tuple[tuple[int, int], tuple[int, int]]:
    middle = (length - 1) / 2
    x, y = middle * np.cos(angle), middle * np.sin(angle)
    return (round(middle - x), round(middle - y)), (round(middle + x), round(middle + y))
