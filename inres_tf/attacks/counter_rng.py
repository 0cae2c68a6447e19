"""Counter-based random numbers: functions of the seed, the image and the step only.

TensorFlow's generators draw for a whole batch, but what an image draws must not depend
on the images that have left the batch, nor on the devices that share it. So each number
is a hash of the seed, the index of the image, the step and its own position.
"""

import math
from collections.abc import Sequence

import tensorflow as tf

_GOLDEN = 0x9E3779B97F4A7C15


def _signed(value):
    """An integer modulo 2^64, as the int64 with the same bits."""
    value %= 2**64
    return value - 2**64 if value >= 2**63 else value


def _mix(bits):
    """The finaliser of SplitMix64, on int64 tensors."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        bits = (bits ^ _shift_right(bits, shift)) * tf.constant(
            _signed(factor), tf.int64
        )
    return bits ^ _shift_right(bits, 31)


def _shift_right(bits, by):
    """Logical shift, where that of int64 is arithmetic."""
    shifted = tf.bitwise.right_shift(bits, tf.constant(by, tf.int64))
    return tf.bitwise.bitwise_and(shifted, tf.constant(2 ** (64 - by) - 1, tf.int64))


def key(seed: tf.Tensor | int, ids: tf.Tensor, *counters: tf.Tensor | int) -> tf.Tensor:
    """Returns a random key for each image.

    Args:
        seed: seed, an integer scalar.
        ids: indices of the images in their dataset, or other keys: int64, (batch,).
        *counters: integer scalars that tell draws for the same image apart, such as
            the step.

    Returns:
        Keys, int64, (batch,).

    Reference:
        Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014.
    """
    golden = tf.constant(_signed(_GOLDEN), tf.int64)
    keys = tf.zeros_like(ids)
    for part in (seed, ids, *counters):
        keys = _mix(keys + (tf.cast(part, tf.int64) + 1) * golden)
    return _mix(keys)


def _bits(keys, shape):
    number = math.prod(shape)
    positions = tf.range(1, number + 1, dtype=tf.int64)
    positions *= tf.constant(_signed(_GOLDEN), tf.int64)
    return tf.reshape(_mix(keys[:, None] + positions), [-1, *shape])


def uniform(keys: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
    """Returns uniform values in (0, 1), float32, (batch, *shape), for keys (batch,)."""
    whole = tf.cast(_shift_right(_bits(keys, shape), 41), tf.float32)
    return (whole + 0.5) * 2.0**-23


def normal(keys: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
    """Returns standard normal values, float32, (batch, *shape), for keys (batch,)."""
    return math.sqrt(2) * tf.math.erfinv(2 * uniform(keys, shape) - 1)


def signs(keys: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
    """Returns values of -1 and 1, float32, (batch, *shape), for keys (batch,)."""
    return tf.where(_bits(keys, shape) < 0, -1.0, 1.0)
