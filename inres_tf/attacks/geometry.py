"""Balls of the L-infinity and the L2 norm around images of pixels in [0, 255]."""

import numpy as np
import tensorflow as tf
from cleverhans.tf2.utils import clip_eta, optimize_linear

from inres_tf.attacks import counter_rng


def size(difference, order):
    """The norm of each image of a difference: float32, (batch,)."""
    if order == np.inf:
        return tf.reduce_max(tf.abs(difference), axis=(1, 2, 3))
    return tf.sqrt(tf.reduce_sum(tf.square(difference), axis=(1, 2, 3)))


def per_image(values):
    """Values (batch,) in a shape that multiplies images (batch, h, w, channels)."""
    return values[:, None, None, None]


def unit(difference, order):
    """Each image scaled to norm 1; one of zeros stays so."""
    return difference / per_image(tf.maximum(size(difference, order), 1e-15))


# cleverhans' guard against divisions by zero, of sizes. The L2 steps below are its own,
# written so that a graph gives its bits: in one, TensorFlow replaces a division by a
# root, as cleverhans writes it, by a product with the inverse root.
_SMALLEST = 1e-6


def steepest(gradient, length, order):
    """The step of a given length that gains most: cleverhans' `optimize_linear`.

    Args:
        gradient: of what is to be gained, (batch, height, width, channels).
        length: norm of the step, in pixels. L2 gradients below 1e-6 give shorter ones.
        order: the norm's.

    Returns:
        Steps, like `gradient`.
    """
    if order == np.inf:
        return optimize_linear(gradient, length, order)
    return length * (gradient / per_image(tf.maximum(size(gradient, order), _SMALLEST)))


def project(images, center, eps, order):
    """Images moved into the balls of radius eps around the center, and into [0, 255].

    The first is cleverhans' `clip_eta`. For the L2 norm the two are no projection to
    the intersection, but stay in it.
    """
    difference = images - center
    if order == np.inf:
        difference = clip_eta(difference, order, eps)
    else:
        sizes = tf.maximum(size(difference, order), _SMALLEST)
        difference *= per_image(tf.minimum(1.0, eps / sizes))
    return clip_pixels(center + difference)


def clip_pixels(images):
    """Images with every value in [0, 255]."""
    return tf.clip_by_value(images, 0.0, 255.0)


def random_in_ball(keys, shape, eps, order):
    """Points drawn uniformly from the ball of radius eps around 0.

    Args:
        keys: as `draws.key` gives them, (batch,).
        shape: of an image.
        eps: radius, in pixels.
        order: the norm's.

    Returns:
        Float32, (batch, *shape).
    """
    if order == np.inf:
        return eps * (2 * counter_rng.uniform(keys, shape) - 1)
    number = float(np.prod(shape))
    radii = counter_rng.uniform(counter_rng.key(1, keys), (1,))[:, 0] ** (1 / number)
    direction = unit(counter_rng.normal(keys, shape), order)
    return eps * per_image(radii) * direction


def random_direction(keys, shape, order):
    """Changes of norm 1 drawn as AutoAttack draws them: float32, (batch, *shape).

    Uniform values over their largest (L-infinity), or normal ones over their norm (L2).
    """
    values = counter_rng.normal(keys, shape)
    if order == np.inf:
        values = 2 * counter_rng.uniform(keys, shape) - 1
    return unit(values, order)


def to_hyperplane(points, normals, gaps, order):
    """The smallest changes that bring points in the pixel range to a hyperplane.

    Changes d of least norm with `sum(normals * d) = gaps` and `points + d` in [0, 255];
    where the hyperplane cannot be reached in the range, those that come nearest.

    The changes of a given size that gain most move every value with its normal, by the
    same amount (L-infinity) or in proportion to it (L2), until the range ends. What
    they gain is a concave, piecewise linear function of that size, so Newton's method
    from zero climbs to the solution without passing it, in as many steps as it crosses
    pieces.

    Args:
        points: pixels in [0, 255], (batch, height, width, channels).
        normals: of the hyperplanes, like `points`.
        gaps: what is to be gained, of either sign, (batch,).
        order: the norm's.

    Returns:
        The changes d, like `points`.

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
    going = tf.ones_like(gaps, bool)
    # A piece is left at every step; more than some tens were never seen.
    for _ in tf.range(100):
        if not tf.reduce_any(going):
            break
        free = tf.cast(room > per_image(sizes) * speeds, tf.float32)
        slope = tf.reduce_sum(weights * speeds * free, axis=(1, 2, 3))
        left = missing(sizes)
        going = (slope > 0) & (left > 1e-6 * gaps)
        sizes += tf.where(going, left / tf.where(going, slope, 1.0), 0.0)
    return tf.sign(normals) * moved(sizes)
