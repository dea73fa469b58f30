"""Results of threads reach their waiters in the event loop, whatever their order and number."""

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from worker.inference.future_bridge import FutureBridge


def test_each_of_5000_waiters_gets_its_result() -> None:
    async def run() -> list[int]:
        bridge = FutureBridge(asyncio.get_running_loop())
        with ThreadPoolExecutor(8) as threads:
            return await asyncio.gather(
                *(bridge.wait(threads.submit(lambda number=number: number)) for number in range(5000))
            )

    assert asyncio.run(run()) == list(range(5000))


def test_many_results_wake_the_loop_once() -> None:
    calls = 0

    async def run() -> list[int]:
        nonlocal calls
        loop = asyncio.get_running_loop()
        wake = loop.call_soon_threadsafe

        def counted(*args: object) -> object:
            nonlocal calls
            calls += 1
            return wake(*args)  # type: ignore[arg-type]

        loop.call_soon_threadsafe = counted  # type: ignore[method-assign,assignment]
        bridge = FutureBridge(loop)
        futures = [Future[int]() for _ in range(16)]
        waits = [asyncio.ensure_future(bridge.wait(future)) for future in futures]
        await asyncio.sleep(0)

        def finish() -> None:
            for number, future in enumerate(futures):
                future.set_result(number)

        thread = threading.Thread(target=finish)
        thread.start()
        thread.join()  # Blocks the thread of the loop.
        return await asyncio.gather(*waits)

    assert asyncio.run(run()) == list(range(16))
    assert calls == 1


def test_exception_reaches_only_its_waiter() -> None:
    async def run() -> list[object]:
        bridge = FutureBridge(asyncio.get_running_loop())
        good, bad = Future[int](), Future[int]()
        waits = [asyncio.ensure_future(bridge.wait(future)) for future in (good, bad)]
        await asyncio.sleep(0)
        bad.set_exception(ValueError("broken"))
        good.set_result(1)
        return await asyncio.gather(*waits, return_exceptions=True)

    good, bad = asyncio.run(run())
    assert good == 1
    assert isinstance(bad, ValueError)


def test_cancelled_waiter_cancels_its_future_and_no_other() -> None:
    async def run() -> tuple[bool, int]:
        bridge = FutureBridge(asyncio.get_running_loop())
        left, late, kept = Future[int](), Future[int](), Future[int]()
        late.set_running_or_notify_cancel()
        waits = [asyncio.ensure_future(bridge.wait(future)) for future in (left, late, kept)]
        await asyncio.sleep(0)
        for wait in waits[:2]:
            wait.cancel()
        await asyncio.gather(*waits[:2], return_exceptions=True)
        late.set_result(2)
        kept.set_result(3)
        return left.cancelled(), await waits[2]

    assert asyncio.run(run()) == (True, 3)


def test_cancelled_future_cancels_its_waiter() -> None:
    async def run() -> None:
        future = Future[int]()
        wait = asyncio.ensure_future(FutureBridge(asyncio.get_running_loop()).wait(future))
        await asyncio.sleep(0)
        future.cancel()
        await wait

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run())
