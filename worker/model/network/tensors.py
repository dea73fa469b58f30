"""Tensors of the backend that Keras computes with, and gradients by it."""

from collections.abc import Callable
from typing import Any, TypeAlias

import keras

Tensor: TypeAlias = Any
"""A TensorFlow tensor or a JAX array."""


def compute_gradient(function: Callable[[Tensor], tuple[Tensor, Any]], at: Tensor) -> tuple[Any, Tensor]:
    """Return the second result of a function of a tensor, and the gradient of the first one, which is a scalar."""
    if keras.config.backend() == "jax":
        import jax

        gradient, others = jax.grad(function, has_aux=True)(at)
        return others, gradient
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(at)
        scalar, others = function(at)
    return others, tape.gradient(scalar, at)
