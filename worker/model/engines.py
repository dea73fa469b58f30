"""Choose the engine that a setting names; each is imported only when it is chosen."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from worker.contract.errors import SettingsError
from worker.model.bundle import Bundle
from worker.model.engine import Engine
from worker.model.gate import passed_gate
from worker.model.layout import LAST_FEATURE_LAYER

EngineName = Literal["auto", "tensorflow", "openvino"]
NVIDIA_DEVICE = Path("/dev/nvidia0")


def make_engine(name: EngineName, bundle: Bundle) -> Engine:
    """The engine of that name. `auto`: OpenVINO where it can run the model, passed the gate and there is no GPU.

    Raises SettingsError for an engine that is not installed or cannot explain the model's target layer.
    """
    closed_form = bundle.manifest.target_layer == LAST_FEATURE_LAYER
    if name == "auto":
        name = "openvino" if closed_form and _openvino_is_best() else "tensorflow"
    if name == "openvino":
        if find_spec("openvino") is None:
            raise SettingsError("FUNDUS_ENGINE: openvino needs the extra `cpu`: pip install 'fundus-grading[cpu]'")
        if not closed_form:
            layer = bundle.manifest.target_layer
            raise SettingsError(f"FUNDUS_ENGINE: openvino has no gradients, which {layer!r} of {bundle.name} needs")
        from worker.model.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(bundle)
    from worker.model.tensorflow_engine import TensorFlowEngine

    return TensorFlowEngine(bundle)


def _openvino_is_best() -> bool:
    if find_spec("openvino") is None or NVIDIA_DEVICE.exists():
        return False
    from worker.model.openvino_engine import best_precision

    return passed_gate("openvino", best_precision())
