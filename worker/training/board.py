"""Tell TensorBoard how a fit goes, for those who watch it."""

from pathlib import Path
from typing import Any

import tensorflow as tf


def write_scalars(folder: Path, row: dict[str, Any]) -> None:
    """One row of figures, at its epoch; what cannot be told is left out."""
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default(step=row["epoch"]):
        for name, value in row.items():
            if name != "epoch" and value is not None:
                tf.summary.scalar(name, value)
    writer.close()
