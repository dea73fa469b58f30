"""Places are counted, waiting is in order, and the urgent go first."""

import asyncio

import pytest

from worker.inference.priority_semaphore import PrioritySemaphore


async def _hold(semaphore: PrioritySemaphore, name: str, log: list[str], *, urgent: bool = False) -> None:
    async with semaphore.acquire(urgent=urgent):
        log.append(name)
        await asyncio.sleep(0)


def test_the_urgent_pass_before_those_who_came_earlier() -> None:
    async def scene() -> list[str]:
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

    assert asyncio.run(scene()) == ["live 1", "live 2", "bulk 1", "bulk 2"]


def test_no_more_are_inside_than_there_are_places() -> None:
    async def scene() -> int:
        semaphore, inside, most = PrioritySemaphore(3), 0, 0

        async def visit() -> None:
            nonlocal inside, most
            async with semaphore.acquire():
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0.001)
                inside -= 1

        await asyncio.gather(*(visit() for _ in range(20)))
        return most

    assert asyncio.run(scene()) == 3


def test_place_comes_back_from_who_failed_inside() -> None:
    async def scene() -> list[str]:
        semaphore, log = PrioritySemaphore(1), list[str]()
        with pytest.raises(ZeroDivisionError):
            async with semaphore.acquire():
                _ = 1 / 0
        await asyncio.wait_for(_hold(semaphore, "next", log), 1)
        return log

    assert asyncio.run(scene()) == ["next"]


@pytest.mark.parametrize("place_has_come", [False, True])
def test_who_gives_up_waiting_takes_no_place_along(*, place_has_come: bool) -> None:
    async def scene() -> list[str]:
        semaphore, log = PrioritySemaphore(1), list[str]()
        async with semaphore.acquire():
            gives_up = asyncio.create_task(_hold(semaphore, "gone", log))
            await asyncio.sleep(0)
            if not place_has_come:
                gives_up.cancel()
        gives_up.cancel()
        await asyncio.gather(gives_up, return_exceptions=True)
        await asyncio.wait_for(_hold(semaphore, "next", log), 1)
        return log

    assert asyncio.run(scene()) == ["next"]
