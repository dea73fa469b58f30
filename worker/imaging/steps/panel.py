"""Render photograph, preprocessed image and overlay side by side, each with a title."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.imaging.photograph import PreparedImage

GAP_PX = 8
TITLE_SHARE = 0.09
"""Height of a title as a share of the side of an image."""

PREPROCESSED = "preprocessed"

_BACKGROUND, _TEXT = (255, 255, 255), (30, 30, 30)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def render_panel(
    prepared: PreparedImage, overlay: NDArray[np.uint8], titles: tuple[str, str], side_px: int
) -> NDArray[np.uint8]:
    """Render the panel of one image, see `tile_images`. titles: of the photograph and of the overlay."""
    enhanced = prepared.enhanced if prepared.enhanced.dtype == np.uint8 else np.rint(prepared.enhanced * 255)
    images = [prepared.canvas, np.asarray(enhanced, np.uint8), overlay]
    return tile_images(images, [titles[0], PREPROCESSED, titles[1]], side_px)


def tile_images(images: Sequence[NDArray[np.uint8]], titles: Sequence[str], side_px: int) -> NDArray[np.uint8]:
    """Arrange square images, uint8 (S, S, 3) RGB, in a row under their titles: uint8 (H, W, 3) RGB on white.

    Each image is resized to `side_px`. titles: ASCII only, a limit of OpenCV's fonts; titles that are too long are cut.
    """
    title_px = max(12, round(side_px * TITLE_SHARE))
    height, width = title_px + side_px + GAP_PX, len(images) * (side_px + GAP_PX) + GAP_PX
    panel = np.full((height, width, 3), _BACKGROUND, np.uint8)
    for index, (image, title) in enumerate(zip(images, titles, strict=True)):
        left = GAP_PX + index * (side_px + GAP_PX)
        interpolation = cv2.INTER_AREA if image.shape[0] > side_px else cv2.INTER_CUBIC
        resized = cv2.resize(image, (side_px, side_px), interpolation=interpolation)
        panel[title_px : title_px + side_px, left : left + side_px] = resized
        panel[:title_px, left : left + side_px] = draw_title(title, side_px, title_px)
    return panel


def draw_title(title: str, side_px: int, title_px: int) -> NDArray[np.uint8]:
    """Draw one line of text in the middle of a band, uint8 (title_px, side_px, 3) RGB, cut if it is too long."""
    scale = cv2.getFontScaleFromHeight(_FONT, max(7, round(0.42 * title_px)))
    text, length = title, len(title)
    while (width_px := cv2.getTextSize(text, _FONT, scale, 1)[0][0]) > side_px and length:
        length -= 1
        text = f"{title[:length]}..."
    band = np.full((title_px, side_px, 3), _BACKGROUND, np.uint8)
    origin = (max(0, (side_px - width_px) // 2), round(title_px * 0.7))
    return np.asarray(cv2.putText(band, text, origin, _FONT, scale, _TEXT, 1, cv2.LINE_AA), np.uint8)
