"""Calls into a process of its own whose Keras runs on JAX, and in which TensorFlow cannot be imported."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Call = Callable[..., Any]


@contextmanager
def jax_process(cache: Path) -> Iterator[Call]:
    """Yield a function that calls another one, of a module that imports no TensorFlow, in the process.

    cache: a folder for compiled programs.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_hide_tensorflow, initargs=(str(cache),)) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result()


def _hide_tensorflow(cache: str) -> None:
    sys.modules["tensorflow"] = None  # type: ignore[assignment]
    os.environ["XDG_CACHE_HOME"] = cache
    os.environ.pop("KERAS_BACKEND", None)


_engines: dict[tuple[Path, str], Any] = {}


def engine(bundle: Path, precision: str = "auto") -> Any:
    """Return the JAX engine of a bundle, made once. Its compiled networks are kept next to the bundle."""
    if (bundle, precision) not in _engines:
        from worker.model.bundle.bundle import load_bundle
        from worker.model.engines.device_options import DeviceOptions
        from worker.model.engines.factory import make_engine

        options = DeviceOptions(cache_folder=bundle.parent / "compiled")
        made = make_engine("jax", load_bundle(bundle), precision, options)  # type: ignore[arg-type]
        _engines[bundle, precision] = made
    return _engines[bundle, precision]
