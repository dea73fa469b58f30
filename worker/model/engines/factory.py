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
from worker.model.engines.device_options import DeviceOptions
from worker.model.engines.protocol import Engine
from worker.model.network.backend import Backend, installed_backends, jax_supports_gpus, loaded_backend, use_backend

EngineName = Literal["auto", "tensorflow", "jax", "openvino", "openvino-int8"]
PrecisionName = Literal["auto", "float32", "bfloat16"]
NVIDIA_DEVICE = Path("/dev/nvidia0")

_Chosen = Literal["tensorflow", "jax", "openvino", "openvino-int8"]
_PRECISIONS: dict[PrecisionName, Literal["f32", "bf16"] | None] = {"auto": None, "float32": "f32", "bfloat16": "bf16"}


def make_engine(
    name: EngineName,
    model: Model,
    precision: PrecisionName = "auto",
    options: DeviceOptions = DeviceOptions(),  # noqa: B008 - it is frozen
) -> Engine:
    """Return the engine with this name. `auto` is the best installed one for the hardware that is accepted.

    On a GPU that is JAX, then TensorFlow; on a processor OpenVINO if it supports the model, then `exact_engine`.
    `openvino-int8` must be chosen by name: it is accepted, but changes the grade of about one image in a thousand.
    precision: `auto` is the fastest floating type of the device; EfficientNet-Lite stays in float32. Raises
    SettingsError for an engine that is not installed or does not support the model or the precision.
    """
    if isinstance(model, Ensemble):
        from worker.model.engines.ensemble_engine import EnsembleEngine

        return EnsembleEngine(model, [make_engine(name, network, precision, options) for network in model.networks])
    chosen = _choose(name, model, precision)
    precision = _limit_precision(chosen, model.manifest.architecture, precision)
    # A backend must be chosen before the modules that import Keras are loaded.
    if chosen == "tensorflow":
        use_backend("tensorflow")
        from worker.model.engines.tensorflow_engine import TensorFlowEngine

        return TensorFlowEngine(model, None if precision == "auto" else precision, options)
    if chosen == "jax":
        use_backend("jax")
        from worker.model.engines.jax_engine import JaxEngine

        return JaxEngine(model, _jax_precision(precision), options)
    from worker.model.engines.openvino_engine import OpenVinoEngine

    if chosen == "openvino-int8":
        return OpenVinoEngine(model, "int8")
    return OpenVinoEngine(model, _PRECISIONS[precision])


def exact_engine() -> Backend:
    """Return the engine whose float32 is the reference: that of this process's Keras, else the first installed one.

    Raises SettingsError if neither TensorFlow nor JAX is installed.
    """
    installed = installed_backends()
    if not installed:
        raise SettingsError(
            "FUNDUS_ENGINE: neither tensorflow nor jax is installed; fix: pip install 'fundus-grading[worker]'"
        )
    return next((name for name in installed if name == loaded_backend()), installed[0])


def _choose(name: EngineName, network: Bundle, precision: PrecisionName) -> _Chosen:
    unsupported = openvino_unsupported_reason(network)
    if name == "auto":
        name = _choose_best(unsupported is None, precision)
    if name in ("tensorflow", "jax"):
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


def _choose_best(openvino_supports_it: bool, precision: PrecisionName) -> _Chosen:  # noqa: FBT001 - private
    if NVIDIA_DEVICE.exists():
        is_free = loaded_backend() in (None, "jax")
        return "jax" if is_free and jax_supports_gpus() else exact_engine()
    return "openvino" if openvino_supports_it and _openvino_is_best(precision) else exact_engine()


def _limit_precision(chosen: _Chosen, architecture: str, precision: PrecisionName) -> PrecisionName:
    """Return the precision for a network. EfficientNet-Lite has none below float32.

    bfloat16 changes one of its grades in a hundred and does not speed up its depthwise convolutions.
    """
    if architecture not in VARIANTS or chosen == "openvino-int8":
        return precision
    if chosen == "tensorflow":
        # `float32` would turn TF32 off in the whole process.
        return "auto" if precision == "bfloat16" else precision
    return "float32"


def _jax_precision(precision: PrecisionName) -> Literal["float32", "bfloat16"] | None:
    if precision != "auto":
        return precision
    return None if is_accepted("jax", "bf16") else "float32"


def openvino_unsupported_reason(network: Bundle) -> str | None:
    """Return why OpenVINO does not support a network, in words; None if it does."""
    manifest = network.manifest
    if manifest.architecture not in (DENSENET121, *VARIANTS):
        return f"openvino supports {DENSENET121} and EfficientNet-Lite; {manifest.name} is {manifest.architecture}"
    if not manifest.is_closed_form:
        return f"openvino has no gradients, which the target layer {manifest.target_layer!r} of {manifest.name} needs"
    return None


def _openvino_is_best(precision: PrecisionName) -> bool:
    if find_spec("openvino") is None:
        return False
    return is_accepted("openvino", _PRECISIONS[precision] or _fastest_float())


def _fastest_float() -> Literal["bf16", "f32"]:
    from worker.model.engines.openvino_executor import fastest_float_precision

    return fastest_float_precision()
