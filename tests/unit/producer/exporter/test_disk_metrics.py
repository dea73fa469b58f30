import shutil
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from producer.exporter.disk_metrics import DiskCollector, parse_disks
from worker.core.errors import FundusError, UsageError


def test_size_and_free_space_are_those_of_the_disk_of_the_folder(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    registry.register(DiskCollector({"store": tmp_path}, pytest.fail))
    usage = shutil.disk_usage(tmp_path)
    assert registry.get_sample_value("fundus_disk_bytes", {"disk": "store"}) == usage.total
    free = registry.get_sample_value("fundus_disk_free_bytes", {"disk": "store"})
    assert free == pytest.approx(usage.free, abs=0.05 * usage.total)
    assert 0 < usage.free < usage.total


def test_metrics_of_other_disks_survive_a_missing_folder(tmp_path: Path) -> None:
    errors: list[FundusError] = []
    registry = CollectorRegistry()
    registry.register(DiskCollector({"gone": tmp_path / "gone", "store": tmp_path}, errors.append))
    assert registry.get_sample_value("fundus_disk_bytes", {"disk": "gone"}) is None
    assert registry.get_sample_value("fundus_disk_bytes", {"disk": "store"}) is not None
    assert {(error.code, error.detail.endswith("gone: No such file or directory")) for error in errors} == {
        ("disk_unknown", True)
    }


def test_disks_are_parsed(tmp_path: Path) -> None:
    assert parse_disks([f"ledger={tmp_path}", "machine=/"]) == {"ledger": tmp_path, "machine": Path("/")}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["/"], r"--disk '/': expected NAME=FOLDER"),
        (["Ledger=/"], r"--disk 'Ledger=/': expected NAME=FOLDER"),
        (["ledger="], r"--disk 'ledger=': expected NAME=FOLDER"),
        (["ledger=/nowhere"], r"--disk ledger=/nowhere: no such folder"),
        (["ledger=/", "ledger=/tmp"], r"--disk ledger is given twice"),
    ],
)
def test_invalid_disk_is_refused(options: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_disks(options)
