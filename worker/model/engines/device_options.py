"""How engines use the device and the disk; it has no effect on the numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from worker.core.settings import Settings


@dataclass(frozen=True, slots=True)
class DeviceOptions:
    """memory_mb: limit of a GPU's memory in MiB; None allocates as needed. cache_folder: of compiled networks."""

    memory_mb: int | None = None
    cache_folder: Path | None = None


def read_device_options(settings: Settings) -> DeviceOptions:
    """Return the options of the settings."""
    return DeviceOptions(settings.gpu_memory_mb, settings.compile_cache)
