"""Alarms to a real HTTP server."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from producer.demo.embedded_valkey import free_port
from tests.services.webhook import Webhook, listening
from worker.core.errors import AlarmError
from worker.core.settings import parse_settings
from worker.core.telemetry.alerts import Alarms

TOKEN = "marked-token-of-a-webhook"


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with listening() as webhook:
        yield webhook


def alarms(*addresses: str) -> Alarms:
    return Alarms(parse_settings(alarm_urls="\n".join(addresses)))


def test_every_address_is_told(webhook: Webhook) -> None:
    alarms(f"json://127.0.0.1:{webhook.port}/one/", f"json://127.0.0.1:{webhook.port}/two/").send("title", "body")
    assert sorted((path, call["title"], call["message"]) for path, call in webhook.calls) == [
        ("/one/", "title", "body"),
        ("/two/", "title", "body"),
    ]


def test_without_an_address_nothing_happens_and_nothing_is_loaded() -> None:
    code = (
        "import sys; from worker.core.telemetry.alerts import Alarms; from worker.core.settings import parse_settings;"
        " Alarms(parse_settings()).send('title', 'body'); print('apprise' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_one_that_does_not_take_it_is_named_by_number_and_the_others_have_it(webhook: Webhook) -> None:
    both = alarms(f"json://127.0.0.1:{free_port()}/", f"json://127.0.0.1:{webhook.port}/")
    with pytest.raises(AlarmError, match="address 1 of 2 in FUNDUS_ALARM_URLS did not take it"):
        both.send("title", "body")
    assert webhook.titles == ["title"]


@pytest.mark.parametrize("status", [404, 500])
def test_refused_alarm_is_an_error(webhook: Webhook, status: int) -> None:
    webhook.status = status
    with pytest.raises(AlarmError):
        alarms(f"json://127.0.0.1:{webhook.port}/").send("title", "body")


TELL = """
import json, sys
from worker.core.telemetry.alerts import Alarms
from worker.core.errors import SettingsError
from worker.core.settings import parse_settings
from worker.core.telemetry.log_setup import configure_logs
configure_logs("json", "debug")
for addresses in json.load(sys.stdin):
    settings = parse_settings(alarm_urls=addresses)
    print(settings)
    try:
        Alarms(settings).send_or_log("title", "body")
    except SettingsError as error:
        print(error.detail)
"""


def test_address_is_said_nowhere_not_even_in_a_log_for_debugging(webhook: Webhook) -> None:
    taken = f"json://user:{TOKEN}@127.0.0.1:{webhook.port}/{TOKEN}"
    nobody = f"json://user:{TOKEN}@127.0.0.1:{free_port()}/{TOKEN}"
    cases = [taken, nobody, f"{taken} nonsense://{TOKEN}", f"{taken} json://{TOKEN}@:not-a-port:/"]
    done = subprocess.run(
        [sys.executable, "-c", TELL], input=json.dumps(cases), capture_output=True, text=True, check=True
    )
    said = done.stdout + done.stderr
    assert (said.count("alarm_sent"), said.count("alarm_failed")) == (1, 1)
    assert said.count("FUNDUS_ALARM_URLS: address 2 of 2 is none that Apprise knows") == 2
    assert TOKEN not in said
    assert len(webhook.calls) == 1
