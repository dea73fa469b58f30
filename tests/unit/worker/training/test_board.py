from pathlib import Path

import tensorflow as tf

from worker.training.board import write_scalars


def test_each_figure_is_a_scalar_at_its_epoch(tmp_path: Path) -> None:
    for epoch in (1, 2):
        write_scalars(tmp_path, {"epoch": epoch, "loss": epoch / 4, "referable_auc": None})
    found = []
    for file in tmp_path.iterdir():
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            found += [(event.step, value.tag, float(tf.make_ndarray(value.tensor))) for value in event.summary.value]
    assert sorted(found) == [(1, "loss", 0.25), (2, "loss", 0.5)]
