"""Write what README shows of the program itself: the table of settings, and the picture of an overlay.

python -m deploy.docs.make_docs
"""

import re
from pathlib import Path

import cv2
import numpy as np
from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from worker.contract.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PICTURE = Path(__file__).with_name("overlay.png")
SAMPLE = ROOT / "producer" / "samples" / "IDRiD_020.jpg"
START, END = "<!-- settings -->", "<!-- end of settings -->"
COMPUTED = {
    "storage_url": "`fundus-store` in the working folder",
    "decode_processes": "one for each core, at most 8",
}


def settings_table() -> str:
    """A Markdown row for each setting."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = COMPUTED.get(name) or _shown(field.default)
        rows.append(f"| `{PREFIX}{name.upper()}` | {default} | {' '.join((field.description or '').split())} |")
    return "\n".join(rows)


def readme_with_table(readme: str) -> str:
    """README's text with the present table between its marks."""
    pattern = re.compile(f"{re.escape(START)}.*?{re.escape(END)}", re.DOTALL)
    return pattern.sub(lambda _: f"{START}\n{settings_table()}\n{END}", readme)


def draw_picture() -> None:
    """Grade one sample with the shipped model; photograph and overlay side by side."""

    from worker.contract.settings import parse_settings
    from worker.formats.header import Limits
    from worker.model.bundle import load_bundle
    from worker.model.tensorflow_engine import TensorFlowEngine
    from worker.steps.overlay import render_overlay
    from worker.steps.prepare import prepare

    settings = parse_settings()
    bundle = load_bundle(settings.model)
    prepared = prepare(
        SAMPLE.read_bytes(), recipe=bundle.recipe, overlay_size_px=settings.overlay_size_px, limits=Limits()
    )
    prediction = TensorFlowEngine(bundle).predict([prepared.enhanced])[0]
    overlay = render_overlay(prepared, prediction.saliency, settings.overlay_colours)
    both = np.hstack([prepared.canvas, overlay])
    cv2.imwrite(str(PICTURE), cv2.cvtColor(both, cv2.COLOR_RGB2BGR))


def _shown(default: object) -> str:
    if default is None or default is PydanticUndefined:
        return ""
    value = default.get_secret_value() if isinstance(default, SecretStr) else default
    return f"`{value}`"


if __name__ == "__main__":
    README.write_text(readme_with_table(README.read_text()))
    draw_picture()
