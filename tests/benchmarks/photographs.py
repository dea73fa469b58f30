"""Full-size fundus photographs: the shipped samples, enlarged to what a camera takes, each turned four ways."""

from collections.abc import Iterator
from importlib.resources import files

import cv2
import numpy as np

WIDTH, HEIGHT = 4288, 2848
QUALITY = 85
"""Files of about 400 kB, as the originals have."""
TURNS = (None, 0, 1, -1)
"""As it is, and as `cv2.flip` mirrors it."""


def full_size_jpegs(count: int) -> Iterator[bytes]:
    """So many JPEGs of 4288 x 2848 pixels; after 40 they come again."""
    encoded = []
    for turn in TURNS:
        for sample in sorted(files("producer.demo.samples").iterdir(), key=lambda file: file.name):
            if sample.name.startswith("IDRiD") and len(encoded) < count:
                encoded.append(_enlarge(sample.read_bytes(), turn))
    for number in range(count):
        yield encoded[number % len(encoded)]


def _enlarge(sample: bytes, turn: int | None) -> bytes:
    small = cv2.imdecode(np.frombuffer(sample, np.uint8), cv2.IMREAD_COLOR)
    large = cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    turned = large if turn is None else cv2.flip(large, turn)
    return cv2.imencode(".jpg", turned, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
