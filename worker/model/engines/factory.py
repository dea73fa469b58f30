"""Make the engine that FUNDUS_ENGINE names. An inference library is imported only if its engine is chosen."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from worker.core.errors import SettingsError
from worker.model.architecture import DENSENET121
from worker.model.bundle.bundle import Bundle
from worker.model.bundle.ensemble import Ensemble, Model
from worker.model.efficientnet_lite import VARIANTS
from worker.model.engines.acceptance import is_accepted
from worker.model.engines.protocol import Engine

EngineName = Literal["auto", "tensorflow", "openvino", "openvino-int8"]
PrecisionName = Literal["auto", "float32", "bfloat16"]
NVIDIA_DEVICE = Path("/dev/nvidia0")

_Chosen = Literal["tensorflow", "openvino", "openvino-int8"]
_PRECISIONS: dict[PrecisionName, Literal["f32", "bf16"] | None] = {"auto": None, "float32": "f32", "bfloat16": "bf16"}


def make_engine(name: EngineName, model: Model, precision: PrecisionName = "auto") -> Engine:
    """Return the engine with this name. `auto`: OpenVINO if it supports the model, is accepted, and there is no GPU.

    `openvino-int8` must be chosen by name: it is accepted, but changes the grade of about one image in a thousand.
    precision: `auto` is the fastest floating type of the device. Raises SettingsError for an engine that is not
    installed or does not support the model or the precision.
    """
    if isinstance(model, Ensemble):
        from worker.model.engines.ensemble_engine import EnsembleEngine

        return EnsembleEngine(model, [make_engine(name, network, precision) for network in model.networks])
    chosen = _choose(name, model, precision)
    if chosen == "tensorflow":
        from worker.model.engines.tensorflow_engine import TensorFlowEngine

        return TensorFlowEngine(model, exact=precision == "float32")
    from worker.model.engines.openvino_engine import OpenVinoEngine

    if chosen == "openvino-int8":
        return OpenVinoEngine(model, "int8")
    if precision == "auto" and model.manifest.architecture in VARIANTS:
        # bfloat16 makes depthwise convolutions slower.
        return OpenVinoEngine(model, "f32")
    return OpenVinoEngine(model, _PRECISIONS[precision])


def _choose(name: EngineName, network: Bundle, precision: PrecisionName) -> _Chosen:
    unsupported = openvino_unsupported_reason(network)
    if name == "auto":
        name = "openvino" if unsupported is None and _openvino_is_best(precision) else "tensorflow"
    if name == "tensorflow":
        if precision == "bfloat16":
            raise SettingsError(
                f"FUNDUS_PRECISION: {network.name} runs with tensorflow, which has no bfloat16; fix:"
                " FUNDUS_PRECISION=auto"
            )
        return name
    if find_spec("openvino") is None:
        raise SettingsError(f"FUNDUS_ENGINE: {name} needs the extra `cpu`: pip install 'fundus-grading[cpu]'")
    if unsupported is not None:
        raise SettingsError(f"FUNDUS_ENGINE: {unsupported}")
    if name == "openvino-int8":
        if precision != "auto":
            raise SettingsError(
                f"FUNDUS_PRECISION: openvino-int8 does not compute in {precision}; fix: FUNDUS_PRECISION=auto or"
                " FUNDUS_ENGINE=openvino"
            )
        if network.activation_ranges is None:
            raise SettingsError(
                f"FUNDUS_ENGINE: {name} needs activation ranges of {network.name}; `fundus model quantise` measures"
                " them"
            )
        return name
    if precision == "bfloat16" and _fastest_float() != "bf16":
        raise SettingsError("FUNDUS_PRECISION: this processor has no bfloat16; fix: FUNDUS_PRECISION=auto")
    return name


def openvino_unsupported_reason(network: Bundle) -> str | None:
    """Return why OpenVINO does not support a network, in words; None if it does."""
    manifest = network.manifest
    if manifest.architecture not in (DENSENET121, *VARIANTS):
        return f"openvino supports {DENSENET121} and EfficientNet-Lite; {manifest.name} is {manifest.architecture}"
    if not manifest.is_closed_form:
        return f"openvino has no gradients, which the target layer {manifest.target_layer!r} of {manifest.name} needs"
    return None


def _openvino_is_best(precision: PrecisionName) -> bool:
    if find_spec("openvino") is None or NVIDIA_DEVICE.exists():
        return False
    return is_accepted("openvino", _PRECISIONS[precision] or _fastest_float())


def _fastest_float() -> Literal["bf16", "f32"]:
    from worker.model.engines.openvino_executor import fastest_float_precision

    return fastest_float_precision()
