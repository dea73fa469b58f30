"""Object keys. They depend on ids only, so a repeated step overwrites the same object."""

import re
from typing import Literal

OverlayFormat = Literal["png", "jpeg"]
OVERLAY_FORMATS: tuple[OverlayFormat, ...] = ("png", "jpeg")
CONTENT_TYPES = {"png": "image/png", "jpeg": "image/jpeg"}


def overlay_key(run_name: str, model_id: str, image_id: str, fmt: OverlayFormat) -> str:
    """Return `RUN/MODEL/IMAGE.jpg` or `.png`. Ids contain no slash, so a key cannot point outside its run."""
    return f"{run_name}/{model_id}/{image_id}.{'png' if fmt == 'png' else 'jpg'}"


def parse_overlay_key(key: str) -> str | None:
    """Return the image id of a key that `overlay_key` makes, None for any other key."""
    found = re.fullmatch(r"[^/]+/[0-9a-f]+/([^/]+)\.(?:png|jpg)", key)
    return None if found is None else found[1]


def report_prefix(run_name: str) -> str:
    """Return `RUN/report/`. It cannot collide with a model's overlays, because model ids are hexadecimal."""
    return f"{run_name}/report/"
