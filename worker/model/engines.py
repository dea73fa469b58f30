"""Choose the engine that a setting names; each is imported only when it is chosen."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from worker.contract.errors import SettingsError
from worker.model.bundle import Bundle
from worker.model.engine import Engine, MemberEngine, Weigher
from worker.model.ensemble_bundle import Ensemble, Model
from worker.model.gate import passed_gate
from worker.model.layout import LAST_FEATURE_LAYER

EngineName = Literal["auto", "tensorflow", "openvino"]
NVIDIA_DEVICE = Path("/dev/nvidia0")

if TYPE_CHECKING:
    from worker.model.ensemble import EnsembleEngine


def make_engine(name: EngineName, model: Model) -> Engine:
    """The engine of that name. `auto`: OpenVINO where it can run the model, passed the gate and there is no GPU.

    Raises SettingsError for an engine that is not installed or cannot explain the model's target layer.
    """
    if isinstance(model, Ensemble):
        return _make_ensemble(name, model)
    closed_form = is_closed_form(model)
    if _choose(name, closed_form=closed_form) == "tensorflow":
        from worker.model.tensorflow_engine import TensorFlowEngine

        return TensorFlowEngine(model)
    if not closed_form:
        layer = model.manifest.target_layer
        raise SettingsError(f"FUNDUS_ENGINE: openvino has no gradients, which {layer!r} of {model.name} needs")
    from worker.model.openvino_engine import OpenVinoEngine

    return OpenVinoEngine(model)


def make_weigher(name: EngineName, model: Model) -> Weigher:
    """As `make_engine`, of a model for which `is_closed_form` holds."""
    if isinstance(model, Ensemble):
        return _make_ensemble(name, model)
    return _make_member(_choose(name, closed_form=True), model)


def is_closed_form(model: Model) -> bool:
    """Whether its maps are those of the last feature map, and so known of all outputs in one forward pass."""
    # Every member of an ensemble is explained there.
    return isinstance(model, Ensemble) or model.manifest.target_layer == LAST_FEATURE_LAYER


def _make_ensemble(name: EngineName, model: Ensemble) -> "EnsembleEngine":
    from worker.model.ensemble import EnsembleEngine

    library = _choose(name, closed_form=True)
    return EnsembleEngine(model, [_make_member(library, network) for network in model.networks])


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
