"""Choose the engine that a setting names; each is imported only when it is chosen."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from worker.contract.errors import SettingsError
from worker.model.bundle import Bundle
from worker.model.engine import Engine, MemberEngine
from worker.model.ensemble_bundle import Ensemble, Model
from worker.model.gate import passed_gate
from worker.model.layout import LAST_FEATURE_LAYER

EngineName = Literal["auto", "tensorflow", "openvino"]
NVIDIA_DEVICE = Path("/dev/nvidia0")


def make_engine(name: EngineName, model: Model) -> Engine:
    """The engine of that name. `auto`: OpenVINO where it can run the model, passed the gate and there is no GPU.

    Raises SettingsError for an engine that is not installed or cannot explain the model's target layer.
    """
    if isinstance(model, Ensemble):
        from worker.model.ensemble import EnsembleEngine

        # Every member of an ensemble is explained at its last feature map.
        library = _choose(name, closed_form=True)
        return EnsembleEngine(model, [_make_member(library, network) for network in model.networks])
    closed_form = model.manifest.target_layer == LAST_FEATURE_LAYER
    if _choose(name, closed_form=closed_form) == "tensorflow":
        from worker.model.tensorflow_engine import TensorFlowEngine

        return TensorFlowEngine(model)
    if not closed_form:
        layer = model.manifest.target_layer
        raise SettingsError(f"FUNDUS_ENGINE: openvino has no gradients, which {layer!r} of {model.name} needs")
    from worker.model.openvino_engine import OpenVinoEngine

    return OpenVinoEngine(model)


def _choose(name: EngineName, *, closed_form: bool) -> Literal["tensorflow", "openvino"]:
    if name == "auto":
        return "openvino" if closed_form and _openvino_is_best() else "tensorflow"
    if name == "openvino" and find_spec("openvino") is None:
        raise SettingsError("FUNDUS_ENGINE: openvino needs the extra `cpu`: pip install 'fundus-grading[cpu]'")
    return name


def _openvino_is_best() -> bool:
    if find_spec("openvino") is None or NVIDIA_DEVICE.exists():
        return False
    from worker.model.openvino_program import best_precision

    return passed_gate("openvino", best_precision())


def _make_member(library: Literal["tensorflow", "openvino"], network: Bundle) -> MemberEngine:
    if library == "openvino":
        from worker.model.openvino_engine import OpenVinoMember

        return OpenVinoMember(network)
    from worker.model.tensorflow_engine import TensorFlowMember

    return TensorFlowMember(network)
