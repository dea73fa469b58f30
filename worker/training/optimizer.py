"""The optimizer of a fit, AdamW with a warm-up and a schedule, and what it trains; only kernels decay."""

from difflib import get_close_matches

import keras

from worker.core.errors import UsageError
from worker.model.network.build import get_backbone
from worker.training.plan import Plan


def freeze_before(network: keras.Sequential, name: str) -> None:
    """Exclude the layers of the backbone before the named one from training, in the order in which they are computed.

    Raises UsageError if the backbone has no such layer.
    """
    layers = get_backbone(network).layers
    names = [layer.name for layer in layers]
    if name not in names:
        nearest = get_close_matches(name, names, n=3, cutoff=0)
        raise UsageError(f"the backbone has no layer {name!r}; near names are {', '.join(nearest)}")
    for layer in layers[: names.index(name)]:
        layer.trainable = False


def build_optimizer(plan: Plan, total_steps: int, network: keras.Sequential) -> keras.optimizers.Optimizer:
    """Return the optimizer of the network's trainable variables."""
    trained = network.trainable_variables
    rate = schedule_rate(plan, total_steps)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=plan.weight_decay, global_clipnorm=plan.gradient_norm)
    optimizer.build(trained)
    optimizer.exclude_from_weight_decay([variable for variable in trained if len(variable.shape) < 2])
    return optimizer


def schedule_rate(plan: Plan, total_steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Return the learning rate by step: a linear warm-up to the plan's rate, then the plan's schedule."""
    warm_up = int(plan.warm_up_share * total_steps)
    return keras.optimizers.schedules.CosineDecay(
        plan.learning_rate / 100 if warm_up else plan.learning_rate,
        decay_steps=max(total_steps - warm_up, 1),
        alpha=1.0 if plan.schedule == "constant" else 0.0,
        warmup_target=plan.learning_rate if warm_up else None,
        warmup_steps=warm_up,
    )
