"""Memory-map stacks of preprocessed images."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray


def open_stack(path: Path) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Memory-map an `.npy` file that holds (N, H, W, 3) uint8 or float32; nothing is loaded or unpickled.

    Raises OSError, and ValueError for any other content.
    """
    try:
        with np.errstate(over="ignore"):
            stack: NDArray[Any] = open_memmap(path, mode="r")
    except (OSError, ValueError):
        raise
    except Exception as error:
        # NumPy's header parser raises various exceptions for hostile input.
        raise ValueError(f"invalid header: {error}") from error
    is_supported = stack.dtype in (np.dtype(np.uint8), np.dtype(np.float32))
    if not is_supported or stack.ndim != 4 or stack.shape[3] != 3 or 0 in stack.shape[1:]:
        raise ValueError(f"array is {stack.dtype} {stack.shape}, must be uint8 or float32 (N, H, W, 3)")
    return stack
