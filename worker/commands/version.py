"""Model description for `fundus --version`; imported only for that option."""

from worker.core.errors import FundusError
from worker.core.settings import read_settings
from worker.model.bundle.bundle import find_bundle
from worker.model.bundle.ensemble import read_any_manifest


def describe_model() -> str:
    """Return name and model_id of the bundle that a worker would load with these settings, or the error."""
    try:
        settings = read_settings()
        manifest = read_any_manifest(find_bundle(settings.model))
    except FundusError as error:
        return f"none: {error.detail}"
    return f"{manifest.name}, model_id {manifest.model_id}"
