"""The semaphore limits concurrency, queues waiters in order and admits urgent ones first."""

import asyncio

import pytest

from worker.inference.priority_semaphore import PrioritySemaphore


async def _hold(semaphore: PrioritySemaphore, name: str, log: list[str], *, urgent: bool = False) -> None:
    async with semaphore.acquire(urgent=urgent):
        log.append(name)
        await asyncio.sleep(0)


def test_urgent_waiters_are_admitted_before_earlier_ones() -> None:
    async def run() -> list[str]:
        semaphore, log = PrioritySemaphore(1), list[str]()
        async with semaphore.acquire():
            waiting = [
                asyncio.create_task(_hold(semaphore, name, log, urgent=name.startswith("live")))
                for name in ("bulk 1", "bulk 2", "live 1", "live 2")
            ]
            await asyncio.sleep(0)
            assert log == []
        await asyncio.gather(*waiting)
        return log

    assert asyncio.run(run()) == ["live 1", "live 2", "bulk 1", "bulk 2"]


def test_holders_never_exceed_the_limit() -> None:
    async def run() -> int:
        semaphore, holders, most = PrioritySemaphore(3), 0, 0

        async def hold() -> None:
            nonlocal holders, most
            async with semaphore.acquire():
                holders += 1
                most = max(most, holders)
                await asyncio.sleep(0.001)
                holders -= 1

        await asyncio.gather(*(hold() for _ in range(20)))
        return most

    assert asyncio.run(run()) == 3


def test_failing_holder_releases_its_slot() -> None:
    async def run() -> list[str]:
        semaphore, log = PrioritySemaphore(1), list[str]()
        with pytest.raises(ZeroDivisionError):
            async with semaphore.acquire():
                _ = 1 / 0
        await asyncio.wait_for(_hold(semaphore, "next", log), 1)
        return log

    assert asyncio.run(run()) == ["next"]


@pytest.mark.parametrize("slot_was_granted", [False, True])
def test_cancelled_waiter_takes_no_slot(*, slot_was_granted: bool) -> None:
    async def run() -> list[str]:
        semaphore, log = PrioritySemaphore(1), list[str]()
        async with semaphore.acquire():
            cancelled = asyncio.create_task(_hold(semaphore, "cancelled", log))
            await asyncio.sleep(0)
            if not slot_was_granted:
                cancelled.cancel()
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        await asyncio.wait_for(_hold(semaphore, "next", log), 1)
        return log

    assert asyncio.run(run()) == ["next"]
