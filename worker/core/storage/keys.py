"""Object keys, computed from ids so that a repeated step writes the same object."""

from typing import Literal

CONTENT_TYPES = {"png": "image/png", "jpeg": "image/jpeg"}


def overlay_key(run_name: str, model_id: str, image_id: str, fmt: Literal["png", "jpeg"]) -> str:
    """`RUN/MODEL/IMAGE.jpg`. The ids' patterns admit no slash, so no id can climb out of its place."""
    return f"{run_name}/{model_id}/{image_id}.{'png' if fmt == 'png' else 'jpg'}"


def report_prefix(run_name: str) -> str:
    """`RUN/report/`, beside the run's overlays: no model's id is `report`, for those are hexadecimal."""
    return f"{run_name}/report/"
