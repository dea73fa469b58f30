"""Make the engine that FUNDUS_ENGINE names. An inference library is imported only if its engine is chosen."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from worker.core.errors import SettingsError
from worker.model.architecture import DENSENET121
from worker.model.bundle.bundle import Bundle
from worker.model.bundle.ensemble import Ensemble, Model
from worker.model.engines.acceptance import is_accepted
from worker.model.engines.protocol import Engine

EngineName = Literal["auto", "tensorflow", "openvino", "openvino-int8"]
NVIDIA_DEVICE = Path("/dev/nvidia0")

_Chosen = Literal["tensorflow", "openvino", "openvino-int8"]
_PRECISIONS: dict[_Chosen, Literal["int8"] | None] = {"openvino": None, "openvino-int8": "int8"}


def make_engine(name: EngineName, model: Model) -> Engine:
    """Return the engine with this name. `auto`: OpenVINO if it supports the model, is accepted, and there is no GPU.

    `openvino-int8` must be chosen by name: it is accepted, but changes the grade of about one image in a thousand.
    Raises SettingsError for an engine that is not installed or does not support the model.
    """
    if isinstance(model, Ensemble):
        from worker.model.engines.ensemble_engine import EnsembleEngine

        return EnsembleEngine(model, [make_engine(name, network) for network in model.networks])
    chosen = _choose(name, model)
    if chosen == "tensorflow":
        from worker.model.engines.tensorflow_engine import TensorFlowEngine

        return TensorFlowEngine(model)
    from worker.model.engines.openvino_engine import OpenVinoEngine

    return OpenVinoEngine(model, _PRECISIONS[chosen])


def _choose(name: EngineName, network: Bundle) -> _Chosen:
    unsupported = openvino_unsupported_reason(network)
    if name == "auto":
        return "openvino" if unsupported is None and _openvino_is_best() else "tensorflow"
    if name != "tensorflow":
        if find_spec("openvino") is None:
            raise SettingsError(f"FUNDUS_ENGINE: {name} needs the extra `cpu`: pip install 'fundus-grading[cpu]'")
        if unsupported is not None:
            raise SettingsError(f"FUNDUS_ENGINE: {unsupported}")
    if name == "openvino-int8" and network.activation_ranges is None:
        raise SettingsError(
            f"FUNDUS_ENGINE: {name} needs activation ranges of {network.name}; `fundus model quantise` measures them"
        )
    return name


def openvino_unsupported_reason(network: Bundle) -> str | None:
    """Return why OpenVINO does not support a network, in words; None if it does."""
    manifest = network.manifest
    if manifest.architecture != DENSENET121:
        return f"openvino supports {DENSENET121} only, and {manifest.name} is {manifest.architecture}"
    if not manifest.is_closed_form:
        return f"openvino has no gradients, which the target layer {manifest.target_layer!r} of {manifest.name} needs"
    return None


def _openvino_is_best() -> bool:
    if find_spec("openvino") is None or NVIDIA_DEVICE.exists():
        return False
    from worker.model.engines.openvino_executor import fastest_float_precision

    return is_accepted("openvino", fastest_float_precision())
