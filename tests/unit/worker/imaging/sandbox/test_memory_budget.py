"""Images reserve memory by their size, in the order of their arrival."""

import threading
import time
from queue import SimpleQueue

import cv2
import numpy as np
import pytest

from tests.services.dicom_files import wrap_pixels
from tests.services.process import HUNG_AFTER_S
from worker.imaging.sandbox.memory_budget import BASE_MB, MemoryBudget, estimate_memory_mb

PIXELS = np.zeros((1024, 2048, 3), np.uint8)
"""2 MiB pixels."""


@pytest.mark.parametrize(
    ("suffix", "pixels", "bytes_per_pixel"),
    [(".jpg", PIXELS, 8), (".png", PIXELS, 10), (".png", cv2.cvtColor(PIXELS, cv2.COLOR_BGR2BGRA), 20)],
)
def test_estimate_follows_the_declared_size(suffix: str, pixels: np.ndarray, bytes_per_pixel: int) -> None:
    data = cv2.imencode(suffix, pixels)[1].tobytes()
    assert len(data) < 2**20
    assert estimate_memory_mb(data, 2048) == BASE_MB + 2 * bytes_per_pixel
    assert estimate_memory_mb(data, 40) == 40


def test_estimate_of_a_dicom_file_needs_no_library() -> None:
    assert estimate_memory_mb(wrap_pixels(PIXELS), 2048) == BASE_MB + 2 * 32 + 6


def test_image_whose_header_is_refused_takes_little() -> None:
    assert estimate_memory_mb(b"not an image", 2048) == BASE_MB
    assert estimate_memory_mb(b"", 16) == 16


def test_small_images_do_not_overtake_a_large_one() -> None:
    budget = MemoryBudget(100)
    order: SimpleQueue[str] = SimpleQueue()

    def take(name: str, memory_mb: int) -> threading.Thread:
        def run() -> None:
            with budget.reserve(memory_mb):
                order.put(name)

        waiting = budget.waiting
        thread = threading.Thread(target=run)
        thread.start()
        deadline = time.monotonic() + HUNG_AFTER_S
        while budget.waiting == waiting:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        return thread

    with budget.reserve(60):
        threads = [take("large", 5000), take("small", 10)]
        assert order.empty()
    for thread in threads:
        thread.join(HUNG_AFTER_S)
    assert [order.get(), order.get()] == ["large", "small"]
    assert (budget.used_mb, budget.waiting) == (0, 0)
