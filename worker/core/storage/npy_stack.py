"""Map the file of a stack of preprocessed images into memory, whatever the file holds."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray


def open_stack(path: Path) -> NDArray[np.uint8] | NDArray[np.float32]:
    """The `.npy` array in the file, N x H x W x 3, uint8 or float32; nothing is loaded and nothing unpickled.

    Raises OSError, and ValueError with a sentence for a file that holds anything else.
    """
    try:
        with np.errstate(over="ignore"):
            stack: NDArray[Any] = open_memmap(path, mode="r")
    except (OSError, ValueError):
        raise
    except Exception as error:
        # NumPy's parsers let through whatever a hostile header trips over.
        raise ValueError(f"no sound header: {error}") from error
    known = stack.dtype in (np.dtype(np.uint8), np.dtype(np.float32))
    if not known or stack.ndim != 4 or stack.shape[3] != 3 or 0 in stack.shape[1:]:
        raise ValueError(f"it holds {stack.dtype} {stack.shape}, needs uint8 or float32 (N, H, W, 3)")
    return stack
