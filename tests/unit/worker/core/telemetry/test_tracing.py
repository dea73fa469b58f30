"""Traces as a real collector receives them; without a collector nothing is imported or sent."""

import subprocess
import sys
import time

import pytest

from tests.services.collector import collector
from tests.services.ports import reserve_port
from tests.services.process import HUNG_AFTER_S
from worker.core.errors import BrokerError, SettingsError
from worker.core.settings import parse_settings
from worker.core.telemetry import tracing
from worker.core.telemetry.tracing import Tracing

FOREIGN = f"00-{0xABC:032x}-{0xDEF:016x}-01"
SEND = """
import sys
from worker.core.telemetry.tracing import Tracing
with Tracing(sys.argv[1] if len(sys.argv) > 1 else None, service="sender").trace_send(run="july", images=2) as headers:
    print(headers["traceparent"])
"""


def send(*arguments: str, env: dict[str, str] | None = None) -> str:
    """Return the `traceparent` of a process that sends one chunk and exits."""
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
            fail_to_grade(grader, traceparent)
        flush(grader)
        by_name = {span.name: span for span in received.spans}
        sent, graded, fetch = by_name["send chunk"], by_name["grade chunk"], by_name["fetch"]
    assert (sent.service, graded.service) == ("sender", "grader")
    assert {sent.trace_id, graded.trace_id, fetch.trace_id} == {traceparent.split("-")[1]}
    assert (sent.parent_id, graded.parent_id, fetch.parent_id) == ("", sent.span_id, graded.span_id)
    assert sent.attributes == {"fundus.run": "july", "fundus.images": 2}
    assert fetch.duration_s == pytest.approx(1.5, abs=0.01)
    assert graded.error_code == "broker_unavailable"
    assert not any("anna" in str(span) for span in received.spans)


def test_chunk_of_a_sender_without_traces_starts_a_trace() -> None:
    with collector() as received:
        grader = Tracing(received.url, service="grader")
        with grader.trace_grading(None):
            pass
        flush(grader)
    (span,) = received.spans
    assert span.parent_id == ""


def test_nothing_is_imported_or_sent_without_a_collector() -> None:
    # Redis's client imports parts of OpenTelemetry; only the project imports the SDK and the exporter.
    ours = ("opentelemetry.sdk.trace", "opentelemetry.exporter")
    code = f"import sys, worker.app, producer.cli; print([n for n in sys.modules if n.startswith({ours})])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    off = Tracing(None, service="sender")
    with off.trace_send(run="july") as headers, off.trace_grading(FOREIGN):
        off.record_stage("fetch", 0.0, 1.0)
    assert headers == {}


def test_unreachable_collector_does_not_block_the_exit() -> None:
    started = time.monotonic()
    assert send(f"http://127.0.0.1:{reserve_port()}").startswith("00-")
    assert time.monotonic() - started < HUNG_AFTER_S


def test_missing_extra_is_an_error_only_with_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "_is_installed", lambda: False)
    with pytest.raises(SettingsError, match="FUNDUS_OTLP_URL needs the extra `tracing`"):
        Tracing("http://collector:4318", service="sender")
    # A cluster may set it for all its containers.
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    assert not Tracing(None, service="sender").is_enabled


@pytest.mark.parametrize("wrong", ["collector:4318", "grpc://collector:4317", "http://", "http://me:secret@collector"])
def test_invalid_url_is_refused_and_its_password_not_repeated(wrong: str) -> None:
    with pytest.raises(SettingsError, match="FUNDUS_OTLP_URL") as refused:
        parse_settings(otlp_url=wrong)
    assert "secret" not in refused.value.detail


def fail_to_grade(grader: Tracing, traceparent: str) -> None:
    now = time.monotonic()
    with grader.trace_grading(traceparent, chunk="c"):
        grader.record_stage("fetch", now - 2, now - 0.5)
        raise BrokerError("the file /home/anna-miller/eye.jpg")


def flush(tracing: Tracing) -> None:
    tracing._tracer.span_processor.force_flush()  # type: ignore[attr-defined]
