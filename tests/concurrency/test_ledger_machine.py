"""Random interleavings of operations on one ledger, statement by statement, on both databases.

10,000 statements on each: `make test-slow TESTS="tests/concurrency -m slow"`.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import Engine

from tests.concurrency.ledger_machine import MODELS, LedgerMachine
from tests.concurrency.operations import Ledger
from tests.unit.producer.ledger_rows import add_model
from worker.core.messaging.broker import make_celery
from worker.core.settings import Settings
from worker.core.storage.folder_store import FolderStore

STATEMENTS = 10_000
STEPS = 80

Machine = type[LedgerMachine]


@pytest.fixture
def machine(
    engine: Engine,
    broker_url: str,
    make_settings: Callable[..., Settings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Machine:
    monkeypatch.setattr("worker.ledger.retention.PAGE_IMAGES", 2)
    for model_id in MODELS:
        add_model(engine, model_id)
    url = engine.url.render_as_string(hide_password=False)
    configured = make_settings(database_url=url, broker_url=broker_url)
    shared = Ledger(make_celery(configured), configured, FolderStore(tmp_path / "overlays"))
    return type("Machine", (LedgerMachine,), {"url": url, "ledger": shared})


def run(machine: Machine, examples: int, *, derandomize: bool) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            derandomize=derandomize,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_operations_in_any_order_keep_the_rules_of_the_ledger(machine: Machine) -> None:
    run(machine, 5, derandomize=True)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_statements_in_any_order_keep_the_rules_of_the_ledger(machine: Machine) -> None:
    while machine.executed < STATEMENTS:
        run(machine, 20, derandomize=False)
