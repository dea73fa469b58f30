"""Training throughput in each precision, in images per second without the first steps.

python -m tests.benchmarks.fit_throughput [--size 224] [--batch-size 32] [--steps 20] [--threads 2]
"""

import argparse
import os
import subprocess
import sys
import time

import numpy as np

WARM_UP_STEPS = 3
FPMATH = "float32, oneDNN multiplying in bfloat16"
MODES = {"float32": {}, FPMATH: {"TF_SET_ONEDNN_FPMATH_MODE": "BF16"}, "bfloat16": {}}


def main() -> None:
    """Print one line per precision; each is timed in a separate process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--one", choices=["float32", "bfloat16"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        print(time_steps(options.one, options.size, options.batch_size, options.steps, options.threads))
        return
    for mode, variables in MODES.items():
        command = [
            sys.executable,
            "-m",
            "tests.benchmarks.fit_throughput",
            *sys.argv[1:],
            "--one",
            mode.partition(",")[0],
        ]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **variables}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        print(f"{mode:40} {float(done.stdout):6.2f} images/s", flush=True)


def time_steps(precision: str, size: int, batch_size: int, steps: int, threads: int | None) -> float:
    """Measure images per second after the warm-up steps, without augmentation."""
    import tensorflow as tf

    from worker.training.plan import DEFAULT_RECIPE, Plan
    from worker.training.targets import make_targets
    from worker.training.trainer import make_trainer

    recipe = DEFAULT_RECIPE.model_copy(update={"input_size_px": size})
    plan = Plan.model_validate(
        {
            "manifest_sha256": "0" * 64,
            "recipe": recipe,
            "batch_size": batch_size,
            "precision": precision,
            "threads": threads,
        }
    )
    trainer = make_trainer(plan, 1000, None)
    images = tf.constant(np.random.default_rng(0).integers(0, 255, (batch_size, size, size, 3), np.uint8))
    targets = tf.constant(make_targets(np.arange(batch_size) % 5, smoothing=0.0))
    for _ in range(WARM_UP_STEPS):
        trainer.train_step(images, targets)
    started = time.monotonic()
    for _ in range(steps):
        trainer.train_step(images, targets)
    return steps * batch_size / (time.monotonic() - started)


if __name__ == "__main__":
    main()
