"""Random numbers of an image, a step and a seed alone.

TensorFlow's generators draw for a whole batch. Fallen images leave it and devices share
it, and neither may change what an image draws. So each number is a hash of the seed,
the image's index, the step and its own place.
"""

import math

import tensorflow as tf

_GOLDEN = 0x9E3779B97F4A7C15


def _signed(value):
    """An integer modulo 2^64, as the int64 of the same bits."""
    value %= 2**64
    return value - 2**64 if value >= 2**63 else value


def _mix(bits):
    """The finaliser of SplitMix64 on int64 tensors."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        bits = (bits ^ _shifted(bits, shift)) * tf.constant(_signed(factor), tf.int64)
    return bits ^ _shifted(bits, 31)


def _shifted(bits, by):
    """Bits moved right with zeros coming in, which int64 alone would not do."""
    moved = tf.bitwise.right_shift(bits, tf.constant(by, tf.int64))
    return tf.bitwise.bitwise_and(moved, tf.constant(2 ** (64 - by) - 1, tf.int64))


def key(seed, ids, *places):
    """A key for each image.

    Args:
        seed: int64 scalar.
        ids: the images' indices in their data, int64, (batch,).
        *places: what else the draw is of, such as the step: integer scalars.

    Returns:
        int64, (batch,).

    Reference:
        Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014.
    """
    golden = tf.constant(_signed(_GOLDEN), tf.int64)
    found = tf.zeros_like(ids)
    for part in (seed, ids, *places):
        found = _mix(found + (tf.cast(part, tf.int64) + 1) * golden)
    return _mix(found)


def _bits(keys, shape):
    number = math.prod(shape)
    places = tf.range(1, number + 1, dtype=tf.int64)
    places *= tf.constant(_signed(_GOLDEN), tf.int64)
    return tf.reshape(_mix(keys[:, None] + places), [-1, *shape])


def uniform(keys, shape):
    """Uniform float32 in (0, 1), (batch, *shape), of keys (batch,)."""
    whole = tf.cast(_shifted(_bits(keys, shape), 41), tf.float32)
    return (whole + 0.5) * 2.0**-23


def normal(keys, shape):
    """Standard normal float32, (batch, *shape), of keys (batch,)."""
    return math.sqrt(2) * tf.math.erfinv(2 * uniform(keys, shape) - 1)


def signs(keys, shape):
    """Float32 of -1 and 1, (batch, *shape), of keys (batch,)."""
    return tf.where(_bits(keys, shape) < 0, -1.0, 1.0)
