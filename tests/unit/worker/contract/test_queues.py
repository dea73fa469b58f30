import pytest

from worker.contract.errors import BrokerError
from worker.contract.messages import GradeChunk
from worker.contract.queues import make_celery, send_chunk, waiting
from worker.contract.settings import parse_settings
from worker.contract.vocabulary import Queue

NOBODY = "redis://127.0.0.1:1/0"
CHUNK = GradeChunk(run_id=1, image_ids=("a",))


def test_process_that_consumes_bulk_sends_to_live(broker_url: str) -> None:
    app = make_celery(parse_settings(broker_url=broker_url, queues="bulk"))

    send_chunk(app, CHUNK, queue=Queue.LIVE, run_name="clinic")

    assert [waiting(app, queue) for queue in Queue] == [1, 0]


def test_look_at_a_broker_that_is_away_is_a_broker_error() -> None:
    with pytest.raises(BrokerError, match="cannot look at queue bulk: ConnectionError"):
        waiting(make_celery(parse_settings(broker_url=NOBODY)), Queue.BULK)


def test_send_to_a_broker_that_is_away_is_a_broker_error() -> None:
    with pytest.raises(BrokerError, match="cannot send 1 images of run clinic to queue live"):
        send_chunk(make_celery(parse_settings(broker_url=NOBODY)), CHUNK, queue=Queue.LIVE, run_name="clinic")
