"""Read the network's weights from a SavedModel as numbers: its graph is never loaded or run.

The folder has a checkpoint of tensors next to the graph; the checkpoint's object graph has the names of the variables.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

from worker.core.errors import ModelError
from worker.model.architecture import weight_shapes
from worker.model.bundle.weights import check_weights
from worker.model.weights_import.layer_names import densenet_layers, match_keras2

CHECKPOINT = Path("variables", "variables")
_OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VARIABLE = "VARIABLE_VALUE"
_SKIPPED = ("optimizer/", "keras_api/", "save_counter/")


def read_saved_model(folder: Path, *, source: str) -> dict[str, NDArray[np.float32]]:
    """Return the network's weights by name.

    Raises ModelError for a damaged folder, and for variables of another network, naming one.
    """
    try:
        reader = tf.train.load_checkpoint(str(folder / CHECKPOINT))
        shapes = reader.get_variable_to_shape_map()
        keys = _keys_by_name(reader.get_tensor(_OBJECTS), source=source)
        arrays = {}
        for name, path in match_keras2(keys, densenet_layers(), source=source).items():
            shape, needed = tuple(shapes.get(keys[path], ())), weight_shapes().get(name)
            if shape != needed:
                raise ModelError(f"{source}: {path} has the shape {shape}, {needed} is needed")
            arrays[name] = np.asarray(reader.get_tensor(keys[path]))
    except (tf.errors.OpError, ValueError, RuntimeError, DecodeError) as error:
        raise ModelError(f"{source}: damaged checkpoint: {str(error).splitlines()[0]}") from error
    return check_weights(arrays, source=source)


def _keys_by_name(objects: bytes, *, source: str) -> dict[str, str]:
    """Return the checkpoint's key of each of the network's variables, by the variable's Keras name."""
    graph = TrackableObjectGraph.FromString(objects)
    keys: dict[str, str] = {}
    for node in graph.nodes:
        for attribute in node.attributes:
            key = attribute.checkpoint_key
            if attribute.name != _VARIABLE or key.startswith(_SKIPPED):
                continue
            if attribute.full_name in keys:
                raise ModelError(f"{source}: two variables are named {attribute.full_name}")
            keys[attribute.full_name] = key
    return keys
