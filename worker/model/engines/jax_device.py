"""Set JAX up before it opens the device: memory, cache of compiled networks, name of the device."""

import os
from contextlib import suppress
from pathlib import Path

import jax
import keras
import structlog

from worker.core.errors import SettingsError
from worker.core.machine import processor_name
from worker.core.vocabulary import Precision
from worker.model.engines.compile_cache import open_compile_cache
from worker.model.engines.device_options import DeviceOptions
from worker.model.engines.protocol import EngineDescription
from worker.model.network.backend import jax_supports_gpus
from worker.model.network.build import FloatPrecision

log = structlog.get_logger(__name__)


def claim_device(precision: FloatPrecision | None, options: DeviceOptions) -> EngineDescription:
    """Open the device and describe it. precision: None is bfloat16 on a GPU and float32 on a processor.

    Raises SettingsError if the memory limit is larger than the GPU's memory.
    """
    _limit_memory(options)
    enable_compile_cache(options.cache_folder)
    device = jax.devices()[0]
    on_gpu = device.platform == "gpu"
    if not on_gpu and jax_supports_gpus():
        log.warning("no_gpu", detail="JAX supports GPUs but finds none; it runs on the CPU")
    chosen = Precision(precision or ("bfloat16" if on_gpu else "float32"))
    libraries = {"jax": jax.__version__, "keras": keras.__version__}
    return EngineDescription("jax", chosen, device.device_kind if on_gpu else processor_name(), libraries)


def enable_compile_cache(folder: Path | None) -> None:
    """Keep compiled programs in this folder, by default that of this user's cache, see `open_compile_cache`."""
    if (opened := open_compile_cache(folder)) is None:
        return
    jax.config.update("jax_compilation_cache_dir", str(opened))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _limit_memory(options: DeviceOptions) -> None:
    """Allocate a GPU's memory as needed, or up to the limit; JAX reads these variables when it opens the device."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if options.memory_mb is None:
        return
    if (total_mb := _total_memory_mb()) is None:
        return
    if options.memory_mb > total_mb:
        raise SettingsError(f"FUNDUS_GPU_MEMORY_MB: {options.memory_mb} MiB, the GPU has {total_mb} MiB")
    os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{options.memory_mb / total_mb:.4f}"


def _total_memory_mb() -> int | None:
    """Return the memory of the first GPU; None without one or without NVIDIA's library."""
    with suppress(ImportError):
        import pynvml

        with suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            return int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).total) // 2**20
    return None
