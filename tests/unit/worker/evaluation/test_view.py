import numpy as np
from rich.console import Console

from tests.unit.worker.evaluation.labelled_images import labelled
from worker.evaluation.document import evaluate
from worker.evaluation.labelled import GradedRun
from worker.evaluation.view import draw_evaluation


def test_evaluation_fits_80_columns() -> None:
    """No line with a figure differs from its line on a wider terminal."""
    count = 1200
    images = labelled([0, 1, 2, 3, 4] * 240, [0, 2, 2, 3, 3] * 240, np.linspace(0, 1, count).tolist())
    run = GradedRun(0, "nightly-2026-11-30", "finished", "0123456789abcdef", "densenet121-efficientnetlite2-320", {})
    sources = {"source": np.array(["aptos", "clinic-north"] * (count // 2))}
    evaluation = evaluate(run, images, sources, resamples=2, seed=0, on_progress=lambda: None)

    def draw(width: int) -> list[str]:
        console = Console(width=width)
        with console.capture() as captured:
            console.print(draw_evaluation(evaluation))
        assert "\u2026" not in captured.get()
        return sorted(word for word in captured.get().split() if "0." in word)

    assert draw(80) == draw(300)
