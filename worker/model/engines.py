"""Choose the engine that a setting names; each is imported only when it is chosen."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from worker.contract.errors import SettingsError
from worker.model.bundle import Bundle
from worker.model.engine import Engine
from worker.model.layout import LAST_FEATURE_LAYER

EngineName = Literal["auto", "tensorflow", "openvino"]
NVIDIA_DEVICE = Path("/dev/nvidia0")


def make_engine(name: EngineName, bundle: Bundle) -> Engine:
    """The engine of that name. `auto`: OpenVINO where it can run the model and there is no GPU, TensorFlow elsewhere.

    Raises SettingsError for an engine that is not installed or cannot explain the model's target layer.
    """
    closed_form = bundle.manifest.target_layer == LAST_FEATURE_LAYER
    if name == "auto":
        quicker = closed_form and find_spec("openvino") and not NVIDIA_DEVICE.exists()
        name = "openvino" if quicker else "tensorflow"
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
