"""Small photographs that carry their own number, which can still be read from their overlays."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

SAMPLES = Path(__file__).parents[2] / "producer" / "demo" / "samples"
SIDE_PX = 256
"""Of the photographs and of their overlays, so that a place in one is the same place in the other."""
_COLUMNS, _ROWS, _BLOCK_PX = 4, 4, 16
_LIT, _DIM = 190, 40
_THRESHOLD = 230
"""Between the sums of red and green that dim and lit blocks have, see `read_number`."""


def write_photographs(folder: Path, count: int, suffix: str = ".png") -> None:
    """`count` <= 65,536 photographs `p0000.png`, ...: the samples in turn, each with its number in its middle."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = [_field(path) for path in sorted(SAMPLES.glob("IDRiD_*.jpg"))]
    for number in range(count):
        picture = fields[number % len(fields)].copy()
        for bit, block in enumerate(_blocks()):
            picture[block] = _LIT if number >> bit & 1 else _DIM
        cv2.imwrite(str(folder / f"p{number:04}{suffix}"), picture)


def read_number(overlay: bytes) -> int:
    """The number of the photograph that an encoded overlay was drawn over. Raises ValueError for no such picture.

    The notebook's colours have red + green = 255, so half of them and half of the photograph leave half of the
    photograph's own red + green; where there is no saliency the photograph itself is left.
    """
    picture = cv2.imdecode(np.frombuffer(overlay, np.uint8), cv2.IMREAD_COLOR)
    if picture is None or picture.shape != (SIDE_PX, SIDE_PX, 3):
        raise ValueError("the overlay does not open, or has another size")
    sums = picture[..., 1].astype(int) + picture[..., 2]
    return sum(
        int(np.median(sums[rows.start + 5 : rows.stop - 5, columns.start + 5 : columns.stop - 5]) > _THRESHOLD) << bit
        for bit, (rows, columns) in enumerate(_blocks())
    )


def _field(path: Path) -> NDArray[np.uint8]:
    """A sample's lit box, squashed to a square and cut to the inscribed circle."""
    picture = cv2.imread(str(path))
    lit = picture.max(axis=2) > 30
    rows, columns = np.flatnonzero(lit.mean(axis=1) > 0.05), np.flatnonzero(lit.mean(axis=0) > 0.05)
    box = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    square = np.maximum(cv2.resize(box, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA), 20)
    places = np.arange(SIDE_PX) - (SIDE_PX - 1) / 2
    square[np.hypot(places[:, None], places[None, :]) > SIDE_PX / 2] = 0
    return np.asarray(square, np.uint8)


def _blocks() -> list[tuple[slice, slice]]:
    top, left = (SIDE_PX - _ROWS * _BLOCK_PX) // 2, (SIDE_PX - _COLUMNS * _BLOCK_PX) // 2
    return [
        (slice(y, y + _BLOCK_PX), slice(x, x + _BLOCK_PX))
        for y in range(top, top + _ROWS * _BLOCK_PX, _BLOCK_PX)
        for x in range(left, left + _COLUMNS * _BLOCK_PX, _BLOCK_PX)
    ]
