"""Metrics of the disks that the services of this machine write to."""

import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from worker.core.errors import FundusError, UsageError

NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")


class DiskCollector(Collector):
    """Collector of disk metrics. The label is the operator's name for a disk, never a path."""

    def __init__(self, disks: Mapping[str, Path], on_error: Callable[[FundusError], object]) -> None:
        """disks: a folder on each disk, by name. on_error: called for each disk that cannot be measured."""
        self._disks = disks
        self._on_error = on_error

    def collect(self) -> Iterator[Metric]:
        """Yield size and free space in bytes. Disks that cannot be measured are left out."""
        size = GaugeMetricFamily("fundus_disk_bytes", "Size of the disk.", labels=["disk"])
        free = GaugeMetricFamily("fundus_disk_free_bytes", "Free space of the disk.", labels=["disk"])
        for name, folder in self._disks.items():
            try:
                usage = shutil.disk_usage(folder)
            except OSError as error:
                self._on_error(FundusError(f"disk {name}: {folder}: {error.strerror}", code="disk_unknown"))
                continue
            size.add_metric([name], usage.total)
            free.add_metric([name], usage.free)
        yield from (size, free)


def parse_disks(options: Sequence[str]) -> dict[str, Path]:
    """Parse options such as `ledger=/var/lib/postgresql` into folders by name. Raises UsageError."""
    disks: dict[str, Path] = {}
    for option in options:
        name, _, folder = option.partition("=")
        if not NAME.fullmatch(name) or not folder:
            raise UsageError(f"--disk {option!r}: expected NAME=FOLDER with a lower-case name, such as ledger=/var/lib")
        if name in disks:
            raise UsageError(f"--disk {name} is given twice")
        if not Path(folder).is_dir():
            raise UsageError(f"--disk {option}: no such folder")
        disks[name] = Path(folder)
    return disks
