"""Fixtures of the fault tests, and the table that they print."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.bundles import write_small_bundle
from tests.faults.site import Site, full_site, light_site
from tests.faults.trial import Trial


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    fault: str
    times: int
    images: int
    lost: int
    duplicated: int
    recovery_s: float


_lines = pytest.StashKey[list[Line]]()
Record = Callable[..., None]


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
def conclude(request: pytest.FixtureRequest) -> Record:
    """Finish a trial, check every promise, and write its line of the table; what became of the images."""

    def record(fault: str, trial: Trial, *, expected: dict[str, int] | None = None, within_s: float = 120) -> None:
        verdict = trial.finish(within_s=within_s)
        assert verdict.statuses == (expected or {"graded": verdict.images})
        request.config.stash[_lines].append(
            Line(
                fault,
                max(1, len(trial.strikes)),
                verdict.images,
                len(verdict.lost),
                len(verdict.duplicated),
                trial.recovery_s(),
            )
        )

    return record


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped network on 64 x 64 pixels: ready and through a batch in a fraction of the time."""
    folder = tmp_path_factory.mktemp("model") / "small"
    write_small_bundle(folder)
    return folder


@pytest.fixture
def light(tmp_path: Path) -> Iterator[Site]:
    with light_site(tmp_path) as site:
        yield site


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Site]:
    with full_site(tmp_path) as site:
        yield site


@pytest.fixture(params=["valkey", "rabbitmq"])
def full_of_each_broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with full_site(tmp_path, request.param) as site:
        yield site


@pytest.fixture(params=["valkey", pytest.param("rabbitmq", marks=pytest.mark.slow)])
def light_of_each_broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with light_site(tmp_path, request.param) as site:
        yield site
