import cv2
import numpy as np

from worker.imaging.steps.thumbnail import encode_thumbnail


def decoded(data: bytes) -> np.ndarray:
    assert (data[:4], data[8:12]) == (b"RIFF", b"WEBP")
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def test_large_image_is_downscaled_and_keeps_its_colours() -> None:
    picture = np.zeros((400, 400, 3), np.uint8)
    picture[:, :200] = (200, 30, 30)
    small = decoded(encode_thumbnail(picture, 100, 90))
    assert small.shape == (100, 100, 3)
    assert np.abs(small[50, 20].astype(int) - (30, 30, 200)).max() < 12  # OpenCV's order


def test_small_image_keeps_its_size() -> None:
    assert decoded(encode_thumbnail(np.zeros((40, 40, 3), np.uint8), 100, 90)).shape == (40, 40, 3)


def test_alpha_channel_is_kept() -> None:
    picture = np.zeros((64, 64, 4), np.uint8)
    picture[16:48, 16:48] = 255
    alpha = decoded(encode_thumbnail(picture, 64, 80))[..., 3]
    assert (alpha[20:44, 20:44].min(), alpha[:12].max()) == (255, 0)
