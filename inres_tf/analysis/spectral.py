"""The largest singular value of the Jacobian of a function, by power iteration."""

from collections.abc import Callable

import tensorflow as tf


def largest_singular_value(
    function: Callable[[tf.Tensor], tf.Tensor],
    points: tf.Tensor,
    iterations: int | tf.Tensor,
    tolerance: float | tf.Tensor,
    seed: int | tf.Tensor = 0,
) -> tf.Tensor:
    """Largest singular value of the Jacobian at each point, from below.

    Power iteration on JᵀJ, separately for each row: converged rows are kept, so that a
    value does not depend on the other rows. The values ||J v|| of the unit vectors v
    grow towards the largest singular value and never exceed it. Products with J are
    computed by reverse mode as gradients of the linear function vJᵀ, which works for
    every operation with a second derivative, unlike forward mode. It may be called
    within a `tf.function`.

    Args:
        function: differentiable function from (batch, ...) to (batch, ...) that treats
            each row independently.
        points: float32 tensor, (batch, ...).
        iterations: maximum number of steps, at least 1.
        tolerance: relative change of the value in a step at which a row has converged.
        seed: seed of the random vector that all rows start from.

    Returns:
        Float32 tensor (batch, 3): the value, the number of steps, and 1 if converged,
        else 0.

    Example:
        >>> import tensorflow as tf
        >>> from inres_tf import analysis
        >>> points = tf.constant([[3.0, 1.0]])  # the Jacobian of x² / 2 is diag(x)
        >>> values = analysis.largest_singular_value(
        ...     lambda x: x**2 / 2, points, iterations=50, tolerance=1e-6)
        >>> print(f"{values[0, 0]:.3f}")
        3.000

    Reference:
        Golub and Van Loan, Matrix Computations, section 7.3.1. Products with J:
        Townsend, A New Trick for Calculating Jacobian Vector Products, 2017.
    """
    shape = tf.shape(points)
    start = tf.random.stateless_normal(shape[1:], [seed, 0], dtype=points.dtype)
    vectors = _unit(tf.broadcast_to(start, shape))
    values = tf.zeros(shape[:1], points.dtype)
    steps = tf.zeros(shape[:1], points.dtype)
    done = tf.zeros(shape[:1], tf.bool)
    step = 0
    while step < iterations and not tf.reduce_all(done):
        image, back = _products(function, points, vectors)
        updated = tf.where(done, values, _norm(image))
        steps += tf.cast(~done, points.dtype)
        moving = tf.reshape(~done, _column(done, points))
        vectors = tf.where(moving, _unit(back), vectors)
        done |= tf.abs(updated - values) <= tolerance * updated
        values = updated
        step += 1
    return tf.stack([values, steps, tf.cast(done, points.dtype)], axis=1)


def _products(function, points, vectors):
    """(J v, JᵀJ v) at each point."""
    with tf.GradientTape(persistent=True) as outer:
        with tf.GradientTape(persistent=True) as inner:
            inner.watch(points)
            outputs = function(points)
        # Any value will do: the gradient is linear in it.
        cotangents = tf.zeros_like(outputs)
        outer.watch(cotangents)
        pulled = inner.gradient(outputs, points, cotangents, "zero")
    image = outer.gradient(pulled, cotangents, vectors, "zero")
    return image, inner.gradient(outputs, points, image, "zero")


def _norm(rows):
    return tf.norm(tf.reshape(rows, [tf.shape(rows)[0], -1]), axis=1)


def _unit(rows):
    """Rows divided by their norm; 0 where the norm is 0."""
    norm = _norm(rows)
    return tf.math.divide_no_nan(rows, tf.reshape(norm, _column(norm, rows)))


def _column(values, rows):
    """Shape in which one value per row broadcasts over the rows."""
    return [tf.shape(values)[0]] + [1] * (rows.shape.rank - 1)
