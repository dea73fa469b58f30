"""Full-size fundus photographs: the shipped samples, upscaled to a camera's resolution and flipped in four ways."""

from collections.abc import Iterator
from importlib.resources import files

import cv2
import numpy as np

WIDTH, HEIGHT = 4288, 2848
QUALITY = 85
"""Gives files of about 400 kB, as the originals."""
FLIPS = (None, 0, 1, -1)
"""None, and the flip codes of `cv2.flip`."""


def full_size_jpegs(count: int) -> Iterator[bytes]:
    """Yield `count` JPEGs of 4288 x 2848 pixels; they repeat after 40."""
    encoded = []
    for flip in FLIPS:
        for sample in sorted(files("producer.demo.samples").iterdir(), key=lambda file: file.name):
            if sample.name.startswith("IDRiD") and len(encoded) < count:
                encoded.append(_upscale(sample.read_bytes(), flip))
    for number in range(count):
        yield encoded[number % len(encoded)]


def _upscale(sample: bytes, flip: int | None) -> bytes:
    small = cv2.imdecode(np.frombuffer(sample, np.uint8), cv2.IMREAD_COLOR)
    large = cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    flipped = large if flip is None else cv2.flip(large, flip)
    return cv2.imencode(".jpg", flipped, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
