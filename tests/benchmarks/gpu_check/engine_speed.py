"""Images/s of engines by batch size, next to the bare forward pass of the same networks on the same device."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.benchmarks.engine_acceptance import Candidate, engine_process
from worker.core.predictions import ModelInput
from worker.model.bundle.bundle import Bundle
from worker.model.bundle.ensemble import Ensemble, Model, load_model
from worker.model.engines.factory import make_engine


@dataclass(frozen=True, slots=True)
class Speed:
    """explain: images/s of `Engine.predict`. pair: of two threads that call it, so that one batch is transferred while
    another is computed. forward: of the networks alone. The last two are None if the networks do not run in Keras.
    """

    engine: str
    precision: str
    device: str
    batch: int
    explain: float
    pair: float | None
    forward: float | None

    @property
    def share(self) -> float | None:
        """Images/s with grades and maps as a share of the bare forward pass."""
        return None if self.forward is None else self.explain / self.forward


def measure_speeds(
    bundle: str, candidates: Sequence[Candidate], batches: Sequence[int], turn_s: float
) -> Iterator[Speed]:
    """Yield the speed of each candidate, in a process of its own, at each batch size."""
    for candidate in candidates:
        with engine_process() as call:
            device = call(_start, bundle, candidate, max(batches))
            for batch in batches:
                yield Speed(candidate.engine, candidate.precision, device, batch, *call(_measure, batch, turn_s))


_engine: Any = None
_candidate: Any = None


def _start(bundle: str, candidate: Candidate, batch: int) -> str:
    """Warm up an engine in this process, and return the name of its device."""
    global _engine, _candidate
    _candidate = candidate
    _engine = make_engine(candidate.setting[0], load_model(bundle), candidate.setting[1])
    _engine.warm_up(batch)
    device: str = _engine.description.device
    return device


def _measure(batch: int, turn_s: float) -> tuple[float, float | None, float | None]:
    images = draw_inputs(_engine.bundle, batch)
    explain = _time(lambda: _engine.predict(images), batch, turn_s)
    if _candidate.engine not in ("tensorflow", "jax"):
        return explain, None, None
    pair = _time_pair(lambda: _engine.predict(images), batch, turn_s)
    return explain, pair, _time(_build_forward(batch), batch, turn_s)


def draw_inputs(model: Model, batch: int) -> list[ModelInput]:
    """Return random inputs of a model."""
    recipes = model.manifest.recipes if isinstance(model, Ensemble) else (model.recipe,)
    rng = np.random.default_rng(0)
    shapes = [(batch, recipe.input_size_px, recipe.input_size_px, 3) for recipe in recipes]
    columns = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    return list(zip(*columns, strict=True)) if isinstance(model, Ensemble) else list(columns[0])


def _build_forward(batch: int) -> Callable[[], object]:
    """Return a function that runs all networks on inputs that are on the device."""
    from worker.model.network.build import load_network

    model = _engine.bundle
    bundles: tuple[Bundle, ...] = model.networks if isinstance(model, Ensemble) else (model,)
    networks = [load_network(one, "bfloat16" if _candidate.precision == "bf16" else "float32") for one in bundles]
    inputs = [np.zeros((batch, one.recipe.input_size_px, one.recipe.input_size_px, 3), np.float32) for one in bundles]
    if _candidate.engine == "tensorflow":
        import tensorflow as tf

        @tf.function(autograph=False)
        def run_networks(pictures: Any) -> Any:
            return [network(one, training=False) for network, one in zip(networks, pictures, strict=True)]

        pictures = [tf.constant(one) for one in inputs]
        return lambda: [output.numpy() for output in run_networks(pictures)]
    import jax

    @jax.jit
    def run(state: Any, pictures: Any) -> Any:
        return [
            network.stateless_call(*variables, one, training=False)[0]
            for network, variables, one in zip(networks, state, pictures, strict=True)
        ]

    state = [
        tuple([one.value for one in kind] for kind in (network.trainable_variables, network.non_trainable_variables))
        for network in networks
    ]
    on_device = jax.device_put(inputs)
    return lambda: jax.device_get(run(state, on_device))


def _time(work: Callable[[], object], images: int, turn_s: float) -> float:
    """Return images/s, after one run that compiles."""
    work()
    count, started = 0, time.perf_counter()
    while count == 0 or time.perf_counter() - started < turn_s:
        work()
        count += 1
    return images * count / (time.perf_counter() - started)


def _time_pair(work: Callable[[], object], images: int, turn_s: float) -> float:
    """Return images/s of two threads that do the same work."""
    rates: list[float] = []
    threads = [threading.Thread(target=lambda: rates.append(_time(work, images, turn_s))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(rates)
