"""Fixtures of the fault tests, and the result table that pytest prints."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.deployment import Deployment, full_deployment, minimal_deployment
from tests.faults.fault_run import FaultRun


@dataclass(frozen=True)
class TableRow:
    """One row of the result table."""

    fault: str
    times: int
    images: int
    lost: int
    duplicated: int
    recovery_s: float


_lines = pytest.StashKey[list[TableRow]]()
Verify = Callable[..., None]


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_lines] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = config.stash[_lines]
    if not lines:
        return
    terminalreporter.section("faults")
    terminalreporter.write_line(f"{'fault':58}{'times':>6}{'images':>8}{'lost':>6}{'twice':>7}{'longest recovery':>18}")
    for line in lines:
        terminalreporter.write_line(
            f"{line.fault:58}{line.times:6}{line.images:8}{line.lost:6}{line.duplicated:7}{line.recovery_s:16.1f} s"
        )


@pytest.fixture
def verify(request: pytest.FixtureRequest) -> Verify:
    """Return a function that finishes a run, checks all invariants and adds a row to the result table."""

    def record(fault: str, run: FaultRun, *, expected: dict[str, int] | None = None, within_s: float = 120) -> None:
        result = run.finish(within_s=within_s)
        assert result.statuses == (expected or {"graded": result.images})
        request.config.stash[_lines].append(
            TableRow(
                fault,
                max(1, len(run.faults)),
                result.images,
                len(result.lost),
                len(result.duplicated),
                run.recovery_s(),
            )
        )

    return record


@pytest.fixture
def minimal(tmp_path: Path) -> Iterator[Deployment]:
    with minimal_deployment(tmp_path) as deployment:
        yield deployment


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Deployment]:
    with full_deployment(tmp_path) as deployment:
        yield deployment


@pytest.fixture(params=["valkey", "rabbitmq"])
def full_of_each_broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deployment]:
    with full_deployment(tmp_path, request.param) as deployment:
        yield deployment


@pytest.fixture(params=["valkey", pytest.param("rabbitmq", marks=pytest.mark.slow)])
def minimal_of_each_broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deployment]:
    with minimal_deployment(tmp_path, request.param) as deployment:
        yield deployment
