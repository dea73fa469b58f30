"""Small photographs with an encoded number that can be read back from their overlays."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

SAMPLES = Path(__file__).parents[2] / "producer" / "demo" / "samples"
SIDE_PX = 256
"""Size of photographs and overlays; both are the same, so that pixels correspond."""
_COLUMNS, _ROWS, _BLOCK_PX = 4, 4, 16
_LIT, _DIM = 190, 40
_THRESHOLD = 230
"""Threshold of red + green between dim and lit blocks, see `read_number`."""


def write_photographs(folder: Path, count: int, suffix: str = ".png") -> None:
    """Write `count` <= 65,536 photographs `p0000.png`, ...: samples with their number encoded in the centre."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = [_field(path) for path in sorted(SAMPLES.glob("IDRiD_*.jpg"))]
    for number in range(count):
        picture = fields[number % len(fields)].copy()
        for bit, block in enumerate(_blocks()):
            picture[block] = _LIT if number >> bit & 1 else _DIM
        cv2.imwrite(str(folder / f"p{number:04}{suffix}"), picture)


def read_number(overlay: bytes) -> int:
    """Return the number of the photograph under an encoded overlay.

    The default colour map has red + green = 255 everywhere, so the blended pixels differ in red + green only by the
    photograph. Raises ValueError if the overlay does not decode or has another size.
    """
    picture = cv2.imdecode(np.frombuffer(overlay, np.uint8), cv2.IMREAD_COLOR)
    if picture is None or picture.shape != (SIDE_PX, SIDE_PX, 3):
        raise ValueError("overlay does not decode or has the wrong size")
    sums = picture[..., 1].astype(int) + picture[..., 2]
    return sum(
        int(np.median(sums[rows.start + 5 : rows.stop - 5, columns.start + 5 : columns.stop - 5]) > _THRESHOLD) << bit
        for bit, (rows, columns) in enumerate(_blocks())
    )


def _field(path: Path) -> NDArray[np.uint8]:
    """Return the lit box of a sample, resized to a square and masked by the inscribed circle."""
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
