import shutil
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from producer.exporter.disk_metrics import DiskCollector, parse_disks
from worker.core.errors import FundusError, UsageError


def test_size_and_free_space_are_those_of_the_folders_disk(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    registry.register(DiskCollector({"store": tmp_path}, pytest.fail))
    usage = shutil.disk_usage(tmp_path)
    assert registry.get_sample_value("fundus_disk_bytes", {"disk": "store"}) == usage.total
    free = registry.get_sample_value("fundus_disk_free_bytes", {"disk": "store"})
    assert free == pytest.approx(usage.free, abs=0.05 * usage.total)
    assert 0 < usage.free < usage.total


def test_folder_that_goes_away_costs_its_own_gauges_alone(tmp_path: Path) -> None:
    told: list[FundusError] = []
    registry = CollectorRegistry()
    registry.register(DiskCollector({"gone": tmp_path / "gone", "store": tmp_path}, told.append))
    assert registry.get_sample_value("fundus_disk_bytes", {"disk": "gone"}) is None
    assert registry.get_sample_value("fundus_disk_bytes", {"disk": "store"}) is not None
    assert {(error.code, error.detail.endswith("gone: No such file or directory")) for error in told} == {
        ("disk_unknown", True)
    }


def test_disks_are_named_with_their_folders(tmp_path: Path) -> None:
    assert parse_disks([f"ledger={tmp_path}", "machine=/"]) == {"ledger": tmp_path, "machine": Path("/")}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["/"], r"--disk '/': expected NAME=FOLDER"),
        (["Ledger=/"], r"--disk 'Ledger=/': expected NAME=FOLDER"),
        (["ledger="], r"--disk 'ledger=': expected NAME=FOLDER"),
        (["ledger=/nowhere"], r"--disk ledger=/nowhere: no such folder"),
        (["ledger=/", "ledger=/tmp"], r"--disk ledger was given twice"),
    ],
)
def test_what_names_no_disk_is_refused(words: list[str], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        parse_disks(words)
