"""Choose the library that Keras computes with: TensorFlow or JAX. A process can choose once."""

import os
import sys
from importlib.util import find_spec
from typing import Literal

from worker.core.errors import SettingsError

Backend = Literal["tensorflow", "jax"]
BACKENDS: tuple[Backend, ...] = ("tensorflow", "jax")
EXTRAS: dict[Backend, str] = {"tensorflow": "worker", "jax": "jax"}
"""The extra that installs each backend."""
_VARIABLE = "KERAS_BACKEND"


def set_default_backend() -> None:
    """Use the first installed backend where KERAS_BACKEND does not name one."""
    if (installed := next(iter(installed_backends()), None)) is not None:
        os.environ.setdefault(_VARIABLE, installed)


def installed_backends() -> tuple[Backend, ...]:
    """Return the installed backends, TensorFlow first."""
    return tuple(name for name in BACKENDS if find_spec(name) is not None)


def jax_supports_gpus() -> bool:
    """Return whether JAX is installed with support for NVIDIA GPUs."""
    plugins = (find_spec(f"jax_cuda{version}_plugin") for version in (12, 13))
    return find_spec("jax") is not None and any(plugin is not None for plugin in plugins)


def loaded_backend() -> str | None:
    """Return the backend of this process; None while Keras is not loaded."""
    if "keras" not in sys.modules:
        return None
    import keras

    backend: str = keras.config.backend()
    return backend


def use_backend(name: Backend) -> None:
    """Use this backend from now on.

    Raises SettingsError if it is not installed, or if this process has loaded Keras with another one.
    """
    if find_spec(name) is None:
        raise SettingsError(f"{name} is not installed; fix: pip install 'fundus-grading[{EXTRAS[name]}]'")
    if (loaded := loaded_backend()) is None:
        os.environ[_VARIABLE] = name
    elif loaded != name:
        raise SettingsError(f"this process runs Keras on {loaded}, {name} needs a process of its own")
