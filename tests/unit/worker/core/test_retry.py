import asyncio
import time

import pytest

from worker.core.errors import (
    DatabaseError,
    ImageMissingError,
    ObjectRefusedError,
    StorageError,
    StoreBusyError,
    StoreDownError,
)
from worker.core.retry import DOWN_ATTEMPTS, retry_service_errors, retry_transfer


def test_service_errors_are_retried_until_success() -> None:
    answers = iter([StorageError("down"), DatabaseError("down"), None])

    def work() -> str:
        error = next(answers)
        if error is not None:
            raise error
        return "done"

    assert retry_service_errors(work, timeout_s=30) == "done"
    assert list(answers) == []


def test_last_error_is_raised_after_the_timeout() -> None:
    calls = []

    def work() -> None:
        calls.append(1)
        raise StorageError(f"down, asked {len(calls)} times")

    started = time.monotonic()
    with pytest.raises(StorageError) as caught:
        retry_service_errors(work, timeout_s=0.3)
    assert time.monotonic() - started >= 0.3
    assert len(calls) >= 2
    assert caught.value.detail == f"down, asked {len(calls)} times"


def test_image_error_is_not_retried() -> None:
    calls = []

    def work() -> None:
        calls.append(1)
        raise ImageMissingError("no file")

    with pytest.raises(ImageMissingError):
        retry_service_errors(work, timeout_s=30)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("error", "attempts"), [(ObjectRefusedError("AccessDenied"), 1), (StoreDownError("SlowDown"), DOWN_ATTEMPTS)]
)
def test_transfer_that_is_refused_or_of_a_store_that_is_down_ends_early(error: StorageError, attempts: int) -> None:
    calls = []

    async def work() -> None:
        calls.append(1)
        raise error

    with pytest.raises(type(error)):
        asyncio.run(retry_transfer(work, timeout_s=600))
    assert len(calls) == attempts


def test_transfer_is_retried_until_success() -> None:
    answers = iter([StorageError("down"), DatabaseError("down"), None])

    async def work() -> str:
        error = next(answers)
        if error is not None:
            raise error
        return "done"

    assert asyncio.run(retry_transfer(work, timeout_s=600)) == "done"


def test_store_that_asks_to_wait_gets_that_time() -> None:
    answers = iter([StoreBusyError("busy", retry_after_s=0.4), None])
    asked_at = []

    def work() -> None:
        asked_at.append(time.monotonic())
        error = next(answers)
        if error is not None:
            raise error

    retry_service_errors(work, timeout_s=30)

    # At most 0.1 s without it.
    assert asked_at[1] - asked_at[0] >= 0.4
