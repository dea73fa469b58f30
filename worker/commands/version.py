"""What `fundus --version` says of the model; loaded only then."""

from worker.contract.errors import FundusError
from worker.contract.settings import read_settings
from worker.model.bundle import find_bundle
from worker.model.ensemble_bundle import read_any_manifest


def describe_model() -> str:
    """The bundle that a worker would load with the settings of this shell, or why none can be told."""
    try:
        settings = read_settings()
        manifest = read_any_manifest(find_bundle(settings.model))
    except FundusError as error:
        return f"none: {error.detail}"
    return f"{manifest.name}, model_id {manifest.model_id}"
