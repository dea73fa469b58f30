import time

import pytest

from worker.core.errors import DatabaseError, ImageMissingError, StorageError
from worker.core.retry import persist


def test_service_that_comes_back_is_asked_until_then() -> None:
    answers = iter([StorageError("down"), DatabaseError("down"), None])

    def work() -> str:
        error = next(answers)
        if error is not None:
            raise error
        return "done"

    assert persist(work, patience_s=30) == "done"
    assert list(answers) == []


def test_last_error_is_raised_when_patience_ends() -> None:
    calls = []

    def work() -> None:
        calls.append(1)
        raise StorageError(f"down, asked {len(calls)} times")

    started = time.monotonic()
    with pytest.raises(StorageError) as caught:
        persist(work, patience_s=0.3)
    assert time.monotonic() - started >= 0.3
    assert len(calls) >= 2
    assert caught.value.detail == f"down, asked {len(calls)} times"


def test_fault_of_the_image_is_not_tried_again() -> None:
    calls = []

    def work() -> None:
        calls.append(1)
        raise ImageMissingError("no file")

    with pytest.raises(ImageMissingError):
        persist(work, patience_s=30)
    assert len(calls) == 1
