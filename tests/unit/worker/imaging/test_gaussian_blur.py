"""The fast blur equals OpenCV's bit for bit: models were trained with that one."""

import cv2
import numpy as np
import pytest

from worker.imaging.gaussian_blur import gaussian_blur


@pytest.mark.parametrize("size_px", [33, 96, 224, 320, 512])
@pytest.mark.parametrize("share", [1 / 60, 1 / 30, 1 / 20, 1 / 10, 1 / 3])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_blur_equals_opencvs_bit_for_bit(size_px: int, share: float, channels: tuple[int, ...]) -> None:
    random = np.random.default_rng(size_px)
    for tall in (size_px, size_px // 2):
        picture = random.integers(0, 256, (tall, size_px, *channels), np.uint8)
        assert np.array_equal(
            gaussian_blur(picture, size_px * share), cv2.GaussianBlur(picture, (0, 0), size_px * share)
        )


@pytest.mark.parametrize("level", [0, 1, 254, 255])
def test_uniform_image_is_unchanged(level: int) -> None:
    picture = np.full((224, 224, 3), level, np.uint8)
    assert np.array_equal(gaussian_blur(picture, 224 / 30), picture)
