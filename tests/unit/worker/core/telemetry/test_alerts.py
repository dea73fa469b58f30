"""Alerts to a real HTTP server."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.services.ports import reserve_port
from tests.services.webhook import Webhook, run_webhook
from worker.core.errors import AlertError
from worker.core.settings import parse_settings
from worker.core.telemetry.alerts import Alerts

TOKEN = "marked-token-of-a-webhook"


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with run_webhook() as webhook:
        yield webhook


def alerts(*addresses: str) -> Alerts:
    return Alerts(parse_settings(alarm_urls="\n".join(addresses)))


def test_alert_is_sent_to_every_address(webhook: Webhook) -> None:
    alerts(f"json://127.0.0.1:{webhook.port}/one/", f"json://127.0.0.1:{webhook.port}/two/").send("title", "body")
    assert sorted((path, call["title"], call["message"]) for path, call in webhook.calls) == [
        ("/one/", "title", "body"),
        ("/two/", "title", "body"),
    ]


def test_without_addresses_nothing_is_sent_and_apprise_is_not_imported() -> None:
    code = (
        "import sys; from worker.core.telemetry.alerts import Alerts; from worker.core.settings import parse_settings;"
        " Alerts(parse_settings()).send('title', 'body'); print('apprise' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_failing_address_is_named_by_number_and_the_others_get_the_alert(webhook: Webhook) -> None:
    both = alerts(f"json://127.0.0.1:{reserve_port()}/", f"json://127.0.0.1:{webhook.port}/")
    with pytest.raises(AlertError, match="FUNDUS_ALARM_URLS: address 1 of 2 did not accept the alert"):
        both.send("title", "body")
    assert webhook.titles == ["title"]


@pytest.mark.parametrize("status", [404, 500])
def test_http_error_is_an_alert_error(webhook: Webhook, status: int) -> None:
    webhook.status = status
    with pytest.raises(AlertError):
        alerts(f"json://127.0.0.1:{webhook.port}/").send("title", "body")


SEND_EACH = """
import json, sys
from worker.core.telemetry.alerts import Alerts
from worker.core.errors import SettingsError
from worker.core.settings import parse_settings
from worker.core.telemetry.log_setup import configure_logs
configure_logs("json", "debug")
for addresses in json.load(sys.stdin):
    settings = parse_settings(alarm_urls=addresses)
    print(settings)
    try:
        Alerts(settings).send_or_log("title", "body")
    except SettingsError as error:
        print(error.detail)
"""


def test_addresses_appear_neither_in_errors_nor_in_debug_logs(webhook: Webhook) -> None:
    reachable = f"json://user:{TOKEN}@127.0.0.1:{webhook.port}/{TOKEN}"
    unreachable = f"json://user:{TOKEN}@127.0.0.1:{reserve_port()}/{TOKEN}"
    cases = [reachable, unreachable, f"{reachable} nonsense://{TOKEN}", f"{reachable} json://{TOKEN}@:not-a-port:/"]
    done = subprocess.run(
        [sys.executable, "-c", SEND_EACH], input=json.dumps(cases), capture_output=True, text=True, check=True
    )
    printed = done.stdout + done.stderr
    assert (printed.count("alert_sent"), printed.count("alert_failed")) == (1, 1)
    assert printed.count("FUNDUS_ALARM_URLS: address 2 of 2 is not a URL that Apprise supports") == 2
    assert TOKEN not in printed
    assert len(webhook.calls) == 1
