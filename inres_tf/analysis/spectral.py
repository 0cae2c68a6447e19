"""The largest singular value of the Jacobian of a function, by power iteration."""

import tensorflow as tf


def largest_singular_value(function, points, iterations, tolerance, seed=0):
    """Largest singular value of the Jacobian at each point, from below.

    Power iteration on JᵀJ, each row for itself: a row that has converged stays as it
    is, so that its value does not depend on the others. The values ||J v|| of the unit
    vectors v grow towards the largest singular value and never exceed it. Products
    with J are gradients of vJᵀ, which is linear: that works with every operation whose
    gradient has one, where forward mode needs more. For use within a `tf.function`.

    Args:
        function: differentiable function of (batch, ...) to (batch, ...), whose rows
            do not depend on one another.
        points: float32 tensor, (batch, ...).
        iterations: most steps, an integer tensor or number, at least 1.
        tolerance: a row has converged when a step changes its value by no more than
            this part of it.
        seed: integer of the random vector that all rows start from.

    Returns:
        Float32 (batch, 3): the value, the steps done, and 1 if it has converged.

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
        found = tf.where(done, values, _norm(image))
        steps += tf.cast(~done, points.dtype)
        moving = tf.reshape(~done, _column(done, points))
        vectors = tf.where(moving, _unit(back), vectors)
        done |= tf.abs(found - values) <= tolerance * found
        values = found
        step += 1
    return tf.stack([values, steps, tf.cast(done, points.dtype)], axis=1)


def _products(function, points, vectors):
    """(J v, JᵀJ v) at each point."""
    with tf.GradientTape(persistent=True) as outer:
        with tf.GradientTape(persistent=True) as inner:
            inner.watch(points)
            outputs = function(points)
        # Any will do, since the gradient is linear in it.
        cotangents = tf.zeros_like(outputs)
        outer.watch(cotangents)
        pulled = inner.gradient(outputs, points, cotangents, "zero")
    image = outer.gradient(pulled, cotangents, vectors, "zero")
    return image, inner.gradient(outputs, points, image, "zero")


def _norm(rows):
    return tf.norm(tf.reshape(rows, [tf.shape(rows)[0], -1]), axis=1)


def _unit(rows):
    """Each row divided by its norm; zero where that is 0."""
    norm = _norm(rows)
    return tf.math.divide_no_nan(rows, tf.reshape(norm, _column(norm, rows)))


def _column(values, rows):
    """The shape in which one value a row broadcasts over the rows."""
    return [tf.shape(values)[0]] + [1] * (rows.shape.rank - 1)
