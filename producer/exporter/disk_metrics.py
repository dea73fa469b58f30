"""Tell Prometheus how full the disks are that the services of this machine write to."""

import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from worker.core.errors import FundusError, UsageError

NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")


class DiskCollector(Collector):
    """Looks at each scrape. The label is the operator's own word for a disk, never a path."""

    def __init__(self, disks: Mapping[str, Path], on_error: Callable[[FundusError], object]) -> None:
        """`disks`: a folder on each, by its word. `on_error` hears of each that cannot be measured."""
        self._disks = disks
        self._on_error = on_error

    def collect(self) -> Iterator[Metric]:
        """Size and free space in bytes; what cannot be measured is left out."""
        size = GaugeMetricFamily("fundus_disk_bytes", "Size of a disk.", labels=["disk"])
        free = GaugeMetricFamily("fundus_disk_free_bytes", "What programs may still write to it.", labels=["disk"])
        for name, folder in self._disks.items():
            try:
                usage = shutil.disk_usage(folder)
            except OSError as error:
                self._on_error(FundusError(f"disk {name}: {folder}: {error.strerror}", code="disk_unknown"))
                continue
            size.add_metric([name], usage.total)
            free.add_metric([name], usage.free)
        yield from (size, free)


def parse_disks(words: Sequence[str]) -> dict[str, Path]:
    """Folders by name, of words such as `ledger=/var/lib/postgresql`. Raises UsageError."""
    disks: dict[str, Path] = {}
    for word in words:
        name, _, folder = word.partition("=")
        if not NAME.fullmatch(name) or not folder:
            raise UsageError(f"--disk {word!r}: expected NAME=FOLDER, the name in small letters, as in ledger=/var/lib")
        if name in disks:
            raise UsageError(f"--disk {name} was given twice")
        if not Path(folder).is_dir():
            raise UsageError(f"--disk {word}: no such folder")
        disks[name] = Path(folder)
    return disks
