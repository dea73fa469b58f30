import threading

from worker.core.storage.transfer_timeout import limit_time


class Response:
    def __init__(self) -> None:
        self.shut_down = threading.Event()

    def shutdown(self) -> None:
        self.shut_down.set()
        raise OSError("closed by the store")


def test_overdue_download_is_shut_down_and_another_is_not() -> None:
    overdue, other = Response(), Response()
    with limit_time(other, 60), limit_time(overdue, 0):
        assert overdue.shut_down.wait(20)
    assert not other.shut_down.is_set()


def test_downloads_share_one_thread() -> None:
    with limit_time(Response(), 60):
        threads = threading.active_count()
        with limit_time(Response(), 60), limit_time(Response(), 60):
            assert threading.active_count() == threads
