"""The one graph in OpenVINO's form, converted once for each model and kept, so that later starts need no TensorFlow."""

import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import openvino

from worker import __version__
from worker.model.bundle import Bundle

GRAPH_FILE = "graph.xml"
IMAGES_INPUT = "images"
"""The argument of that name in `worker.model.graph`."""


def read_graph(core: openvino.Core, bundle: Bundle) -> openvino.Model:
    """The graph of a model, float32, converted now if this user never has, or if what is kept of it is damaged.

    It is kept under XDG_CACHE_HOME or ~/.cache, readable by this user alone, or in the temporary folder where neither
    can be written to.
    """
    folder = _cache_root() / f"{bundle.model_id}-{__version__}-{version('openvino')}"
    try:
        return core.read_model(folder / GRAPH_FILE)
    except RuntimeError:
        shutil.rmtree(folder, ignore_errors=True)
        _convert(bundle, folder)
        return core.read_model(folder / GRAPH_FILE)


def _cache_root() -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fundus"
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="fundus-"))
    return root if os.access(root, os.W_OK) else Path(tempfile.mkdtemp(prefix="fundus-"))


def _convert(bundle: Bundle, folder: Path) -> None:
    from worker.model.densenet import load_network
    from worker.model.graph import build_graph

    graph: Any = build_graph(load_network(bundle), bundle.manifest)
    model = openvino.convert_model(graph.get_concrete_function())
    # Written beside its place and renamed: another worker may be converting, too, and a killed one leaves no half.
    part = Path(tempfile.mkdtemp(prefix="part-", dir=folder.parent))
    try:
        openvino.save_model(model, part / GRAPH_FILE, compress_to_fp16=False)
        try:
            part.rename(folder)
        except OSError:
            if not (folder / GRAPH_FILE).exists():
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
