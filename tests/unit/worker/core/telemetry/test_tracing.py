"""Traces as a real receiver gets them, and nothing at all where none are wanted."""

import subprocess
import sys
import time

import pytest

from tests.services.collector import collector
from tests.services.ports import reserve_port
from worker.core.errors import BrokerError, SettingsError
from worker.core.settings import parse_settings
from worker.core.telemetry import tracing
from worker.core.telemetry.tracing import Tracing

FOREIGN = f"00-{0xABC:032x}-{0xDEF:016x}-01"
SEND = """
import sys
from worker.core.telemetry.tracing import Tracing
with Tracing(sys.argv[1] if len(sys.argv) > 1 else None, service="sender").sending(run="july", images=2) as headers:
    print(headers["traceparent"])
"""


def send(*arguments: str, env: dict[str, str] | None = None) -> str:
    """The `traceparent` of a process that sends one chunk and ends."""
    done = subprocess.run(
        [sys.executable, "-c", SEND, *arguments], env=env, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


@pytest.mark.parametrize("named_by", ["setting", "standard variable"])
def test_sender_and_grader_share_a_trace(named_by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with collector() as received:
        if named_by == "setting":
            traceparent, grader = send(received.url), Tracing(received.url, service="grader")
        else:
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", received.url)
            traceparent, grader = send(), Tracing(None, service="grader")
        with pytest.raises(BrokerError):
            grade_badly(grader, traceparent)
        flush(grader)
        by_name = {span.name: span for span in received.spans}
        sent, graded, fetch = by_name["send chunk"], by_name["grade chunk"], by_name["fetch"]
    assert (sent.service, graded.service) == ("sender", "grader")
    assert {sent.trace_id, graded.trace_id, fetch.trace_id} == {traceparent.split("-")[1]}
    assert (sent.parent_id, graded.parent_id, fetch.parent_id) == ("", sent.span_id, graded.span_id)
    assert sent.about == {"fundus.run": "july", "fundus.images": 2}
    assert fetch.took_s == pytest.approx(1.5, abs=0.01)
    assert graded.failed_with == "broker_unavailable"
    assert not any("anna" in str(span) for span in received.spans)


def test_chunk_of_a_sender_without_traces_begins_its_own() -> None:
    with collector() as received:
        grader = Tracing(received.url, service="grader")
        with grader.grading(None):
            pass
        flush(grader)
    (span,) = received.spans
    assert span.parent_id == ""


def test_nothing_is_loaded_or_sent_where_no_collector_is_named() -> None:
    # Redis's client looks for meters where it finds the package; spans and their sending are ours.
    ours = ("opentelemetry.sdk.trace", "opentelemetry.exporter")
    code = f"import sys, worker.app, producer.cli; print([n for n in sys.modules if n.startswith({ours})])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    off = Tracing(None, service="sender")
    with off.sending(run="july") as headers, off.grading(FOREIGN):
        off.stage("fetch", 0.0, 1.0)
    assert headers == {}


def test_collector_that_is_away_holds_nobody_up() -> None:
    started = time.monotonic()
    assert send(f"http://127.0.0.1:{reserve_port()}").startswith("00-")
    assert time.monotonic() - started < 10


def test_missing_extra_is_named_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "_is_installed", lambda: False)
    with pytest.raises(SettingsError, match="FUNDUS_OTLP_URL: install the extra `tracing`"):
        Tracing("http://collector:4318", service="sender")
    # A cluster may set it for everybody.
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    assert not Tracing(None, service="sender").on


@pytest.mark.parametrize("wrong", ["collector:4318", "grpc://collector:4317", "http://", "http://me:secret@collector"])
def test_address_that_is_none_is_refused_and_not_repeated(wrong: str) -> None:
    with pytest.raises(SettingsError, match="FUNDUS_OTLP_URL") as refused:
        parse_settings(otlp_url=wrong)
    assert "secret" not in refused.value.detail


def grade_badly(grader: Tracing, traceparent: str) -> None:
    now = time.monotonic()
    with grader.grading(traceparent, chunk="c"):
        grader.stage("fetch", now - 2, now - 0.5)
        raise BrokerError("the file /home/anna-miller/eye.jpg")


def flush(tracing: Tracing) -> None:
    tracing._tracer.span_processor.force_flush()  # type: ignore[attr-defined]
