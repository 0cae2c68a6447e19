"""Balls of the L-infinity and L2 norms around images of pixels in [0, 255]."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from cleverhans.tf2.utils import clip_eta, optimize_linear

from inres_tf.attacks import counter_rng


def size(difference: tf.Tensor, order: float) -> tf.Tensor:
    """Returns the norm of each image of a difference: float32, (batch,)."""
    if order == np.inf:
        return tf.reduce_max(tf.abs(difference), axis=(1, 2, 3))
    return tf.sqrt(tf.reduce_sum(tf.square(difference), axis=(1, 2, 3)))


def per_image(values: tf.Tensor) -> tf.Tensor:
    """Reshapes (batch,) to (batch, 1, 1, 1), to broadcast with images."""
    return values[:, None, None, None]


def unit(difference: tf.Tensor, order: float) -> tf.Tensor:
    """Scales each image to norm 1; zero stays zero."""
    # Squares of the tiny gradients of confident networks would vanish.
    largest = per_image(size(difference, np.inf))
    tiny = (largest > 0) & (largest < 1e-6)
    difference = difference / tf.where(tiny, largest, 1.0)
    return difference / per_image(tf.maximum(size(difference, order), 1e-15))


# The L2 steps below give the bits of cleverhans' in a graph, where TensorFlow replaces
# a division by a square root, as in cleverhans, by a product with the inverse square
# root. But cleverhans' bound of norms that are divided by, 1e-6, is meant for pixels in
# [0, 1]: with gradients of confident networks, it shortens the steps.
_SMALLEST = 1e-6


def steepest(gradient: tf.Tensor, length: tf.Tensor, order: float) -> tf.Tensor:
    """Returns steps of steepest ascent: `optimize_linear` of cleverhans.

    Args:
        gradient: gradient of the loss, (batch, height, width, channels).
        length: norm of the steps, in pixels.
        order: order of the norm, `np.inf` or 2.

    Returns:
        Steps, of the shape of `gradient`.
    """
    if order == np.inf:
        return optimize_linear(gradient, length, order)
    return length * unit(gradient, order)


def project(
    images: tf.Tensor, center: tf.Tensor, eps: tf.Tensor, order: float
) -> tf.Tensor:
    """Projects images to the balls around the center, and then clips the pixels.

    The first is `clip_eta` of cleverhans. For the L2 norm, the two together are not the
    projection to the intersection, but the result lies in it.

    Args:
        images: images, (batch, height, width, channels).
        center: centers of the balls, of the shape of `images`.
        eps: radius of the balls, in pixels.
        order: order of the norm, `np.inf` or 2.

    Returns:
        Pixels in [0, 255], of the shape of `images`.
    """
    difference = images - center
    if order == np.inf:
        difference = clip_eta(difference, order, eps)
    else:
        sizes = tf.maximum(size(difference, order), _SMALLEST)
        difference *= per_image(tf.minimum(1.0, eps / sizes))
    return clip_pixels(center + difference)


def clip_pixels(images: tf.Tensor) -> tf.Tensor:
    """Clips every value to [0, 255]."""
    return tf.clip_by_value(images, 0.0, 255.0)


def random_in_ball(
    keys: tf.Tensor, shape: Sequence[int], eps: tf.Tensor, order: float
) -> tf.Tensor:
    """Draws points uniformly from the ball around 0.

    Args:
        keys: random keys of `counter_rng.key`, (batch,).
        shape: shape of an image.
        eps: radius of the ball, in pixels.
        order: order of the norm, `np.inf` or 2.

    Returns:
        Points, float32, (batch, *shape).
    """
    if order == np.inf:
        return eps * (2 * counter_rng.uniform(keys, shape) - 1)
    number = float(np.prod(shape))
    radii = counter_rng.uniform(counter_rng.key(1, keys), (1,))[:, 0] ** (1 / number)
    direction = unit(counter_rng.normal(keys, shape), order)
    return eps * per_image(radii) * direction


def random_direction(keys: tf.Tensor, shape: Sequence[int], order: float) -> tf.Tensor:
    """Draws directions of norm 1 as AutoAttack does: float32, (batch, *shape).

    Uniform values divided by their maximum (L-infinity), or normal values divided by
    their norm (L2).

    Args:
        keys: random keys of `counter_rng.key`, (batch,).
        shape: shape of an image.
        order: order of the norm, `np.inf` or 2.
    """
    if order == np.inf:
        values = 2 * counter_rng.uniform(keys, shape) - 1
    else:
        values = counter_rng.normal(keys, shape)
    return unit(values, order)


def to_hyperplane(
    points: tf.Tensor, normals: tf.Tensor, gaps: tf.Tensor, order: float
) -> tf.Tensor:
    """Returns the smallest changes that move pixels to a hyperplane.

    These are the changes d of least norm with `sum(normals * d) = gaps` and
    `points + d` in [0, 255], or, if the hyperplane does not intersect that range, those
    that come closest to it.

    For a given size, the best change moves every value along its normal by the same
    amount (L-infinity) or in proportion to it (L2), until the pixel range ends. The
    gain, `sum(normals * d)`, is a concave, piecewise linear function of the size, so
    Newton's method from zero converges without overshooting, in at most as many steps
    as there are pieces.

    Args:
        points: pixels in [0, 255], (batch, height, width, channels).
        normals: normals of the hyperplanes, of the shape of `points`.
        gaps: the gains wanted, of either sign, (batch,).
        order: order of the norm, `np.inf` or 2.

    Returns:
        The changes d, of the shape of `points`.

    Reference:
        Croce, Hein: Minimally Distorted Adversarial Examples with a Fast Adaptive
        Boundary Attack, ICML 2020, equations (3) and (4).
    """
    normals = normals * per_image(tf.where(gaps < 0, -1.0, 1.0))
    gaps = tf.abs(gaps)
    weights = tf.abs(normals)
    speeds = tf.ones_like(weights) if order == np.inf else weights
    room = tf.where(normals > 0, 255 - points, points)
    room = tf.where(weights > 0, room, 0.0)

    def moved(sizes):
        return tf.minimum(per_image(sizes) * speeds, room)

    def missing(sizes):
        gained = tf.reduce_sum(weights * moved(sizes), axis=(1, 2, 3))
        return gaps - gained

    sizes = tf.zeros_like(gaps)
    searching = tf.ones_like(gaps, bool)
    # In practice, a few tens of steps suffice.
    for _ in tf.range(100):
        if not tf.reduce_any(searching):
            break
        free = tf.cast(room > per_image(sizes) * speeds, tf.float32)
        slope = tf.reduce_sum(weights * speeds * free, axis=(1, 2, 3))
        remaining = missing(sizes)
        searching = (slope > 0) & (remaining > 1e-6 * gaps)
        sizes += tf.where(searching, remaining / tf.where(searching, slope, 1.0), 0.0)
    return tf.sign(normals) * moved(sizes)
