import keras
import pytest

from inres_tf.layers import DampedAdd, dampings


@pytest.fixture
def damped_add():
    """Function that returns a built `DampedAdd` with the given λ."""

    def build(damping, rate, shape=(2, 4, 4, 3), **kwargs):
        scalar = dampings.get(damping).scalar
        k = keras.initializers.Constant(scalar(rate)) if scalar else None
        layer = DampedAdd(damping, k, **kwargs)
        layer.build([shape, shape])
        return layer

    return build
