"""A finished run gets a report, one writer at a time leases it, and a report that kills its writers is given up."""

import pytest
from sqlalchemy import Engine, func, select, update

from tests.unit.worker.ledger.ledger_rows import add_model, add_run, change
from worker.core.errors import RunError
from worker.ledger.completion import finish_if_settled
from worker.ledger.database import epoch_now, read_transaction, write_transaction
from worker.ledger.report_leases import (
    ReportLease,
    claim_due_reports,
    finish_report,
    is_report_pending,
    lease_report,
    release_report,
    renew_report,
    request_report,
    reschedule_report,
)
from worker.ledger.schema import audit_log, reports, runs


@pytest.fixture
def run(engine: Engine) -> int:
    """A run whose last image has just been settled."""
    add_model(engine)
    run_id = add_run(engine, ["a"])
    change(engine, "a", status="failed", error_code="image_missing", settled_at=func.now())
    finish(engine, run_id)
    return run_id


def finish(engine: Engine, run_id: int, *, report: bool = True) -> None:
    with write_transaction(engine) as connection:
        assert finish_if_settled(connection, run_id, report=report)


def row(engine: Engine, run_id: int) -> object:
    with read_transaction(engine) as connection:
        return connection.execute(select(reports).where(reports.c.run_id == run_id)).one()


def make_due(engine: Engine) -> None:
    with write_transaction(engine) as connection:
        connection.execute(update(reports).where(reports.c.due_at.is_not(None)).values(due_at=epoch_now() - 1))


def claim(engine: Engine) -> list[tuple[int, str]]:
    with write_transaction(engine) as connection:
        return claim_due_reports(connection, resend_after_s=60, max_attempts=3)


def lease_it(engine: Engine, run_id: int) -> ReportLease:
    lease = lease_report(engine, run_id, lease_s=60)
    assert lease is not None
    return lease


def test_one_writer_leases_the_report_and_its_prefix_is_stored(engine: Engine, run: int) -> None:
    lease = lease_it(engine, run)
    assert (lease.run_name, lease.prefix) == ("night", "night/report/")
    assert (row(engine, run).prefix, row(engine, run).written_at) == ("night/report/", None)  # type: ignore[attr-defined]
    assert lease_report(engine, run, lease_s=60) is None


@pytest.mark.parametrize(
    ("queue", "image_ids", "pending"),
    [("live", ["b"], False), ("live", ["b", "c"], True), ("bulk", ["b"], True)],
    ids=["one live image", "two live images", "one bulk image"],
)
def test_run_of_one_live_image_gets_no_report(
    engine: Engine, run: int, queue: str, image_ids: list[str], *, pending: bool
) -> None:
    clinic = add_run(engine, image_ids, name="clinic", queue=queue)
    for image_id in image_ids:
        change(engine, image_id, status="failed", error_code="image_missing", settled_at=func.now())
    finish(engine, clinic)
    with read_transaction(engine) as connection:
        assert (is_report_pending(connection, clinic), is_report_pending(connection, run)) == (pending, True)
    assert request_report(engine, "clinic", lease_s=60).run_id == clinic


def test_written_report_is_not_pending_and_is_in_the_audit_log(engine: Engine, run: int) -> None:
    lease = lease_it(engine, run)
    assert finish_report(engine, lease, out="s3://x/night/report/index.html")
    assert row(engine, run).written_at is not None  # type: ignore[attr-defined]
    assert lease_report(engine, run, lease_s=60) is None
    make_due(engine)
    assert claim(engine) == []
    with read_transaction(engine) as connection:
        assert connection.execute(select(audit_log.c.action, audit_log.c.run)).all() == [("export", "night")]


def test_report_of_a_dead_writer_is_leased_again_and_the_first_lease_is_void(engine: Engine, run: int) -> None:
    first = lease_it(engine, run)
    make_due(engine)
    assert claim(engine) == [(run, "night")]
    second = lease_it(engine, run)
    assert not renew_report(engine, first, lease_s=60)
    assert not finish_report(engine, first, out="x")
    with read_transaction(engine) as connection:
        assert connection.execute(select(audit_log.c.action)).all() == []
    assert renew_report(engine, second, lease_s=60)
    assert finish_report(engine, second, out="x")
    with read_transaction(engine) as connection:
        assert connection.execute(select(audit_log.c.action)).all() == [("export",)]


def test_report_that_kills_its_writers_is_given_up(engine: Engine, run: int) -> None:
    for _ in range(3):
        lease_it(engine, run)
        make_due(engine)
    assert claim(engine) == []
    assert lease_report(engine, run, lease_s=60) is None


def test_service_error_costs_no_attempt(engine: Engine, run: int) -> None:
    for _ in range(5):
        release_report(engine, lease_it(engine, run), retry_after_s=-1, counted=False)
    assert claim(engine) == [(run, "night")]
    release_report(engine, lease_it(engine, run), retry_after_s=-1, counted=True)
    assert row(engine, run).attempts == 1  # type: ignore[attr-defined]


def test_report_with_a_lost_message_is_claimed_once_it_is_due(engine: Engine, run: int) -> None:
    assert claim(engine) == []
    make_due(engine)
    assert claim(engine) == [(run, "night")]
    assert claim(engine) == []


def test_resumed_run_has_no_due_report_until_it_finishes_again(engine: Engine, run: int) -> None:
    assert finish_report(engine, lease_it(engine, run), out="x")
    with write_transaction(engine) as connection:
        connection.execute(update(runs).values(state="running", finished_at=None))
    finish(engine, run)
    old = lease_it(engine, run)
    with write_transaction(engine) as connection:
        connection.execute(update(runs).values(state="running", finished_at=None))
    make_due(engine)
    assert claim(engine) == []
    finish(engine, run)
    assert not renew_report(engine, old, lease_s=60)
    assert lease_it(engine, run)


def test_no_report_is_scheduled_if_reports_are_off(engine: Engine) -> None:
    add_model(engine)
    run_id = add_run(engine, [])
    finish(engine, run_id, report=False)
    assert lease_report(engine, run_id, lease_s=60) is None


def test_report_can_be_requested_again_unless_it_is_being_written(engine: Engine, run: int) -> None:
    lease = request_report(engine, "night", lease_s=60)
    with pytest.raises(RunError, match="is being written by another process"):
        request_report(engine, "night", lease_s=60)
    assert finish_report(engine, lease, out="x")
    assert request_report(engine, "night", lease_s=60).token != lease.token


def test_report_of_an_unknown_or_running_run_cannot_be_requested(engine: Engine) -> None:
    add_run(engine, ["a"])
    with pytest.raises(RunError, match="no run 'dawn'"):
        request_report(engine, "dawn", lease_s=60)
    with pytest.raises(RunError, match="run night is running; --out DIR"):
        request_report(engine, "night", lease_s=60)


def reschedule(engine: Engine, run_id: int) -> None:
    with write_transaction(engine) as connection:
        reschedule_report(connection, run_id, after_s=600)


def test_outdated_report_is_due_after_the_delay(engine: Engine, run: int) -> None:
    lease = lease_it(engine, run)
    reschedule(engine, run)
    assert not renew_report(engine, lease, lease_s=60)  # the report that is being written is outdated
    finish_report(engine, lease, out="x")
    assert claim(engine) == []
    make_due(engine)
    assert claim(engine) == [(run, "night")]


def test_rescheduling_creates_no_report(engine: Engine) -> None:
    add_model(engine)
    run_id = add_run(engine, ["a"])
    reschedule(engine, run_id)
    with read_transaction(engine) as connection:
        assert connection.execute(select(reports)).all() == []
