import keras
import numpy as np
import pytest

import zoo
from inres_tf.models import in_float32


def model_in(policy):
    keras.config.set_dtype_policy(policy)
    try:
        return zoo.InResNet8(input_shape=(8, 8, 1), classifier_activation=None)
    finally:
        keras.config.set_dtype_policy("float32")


def test_float32_models_are_returned_unchanged():
    model = model_in("float32")
    assert in_float32(model) is model


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_lower_precision_is_copied_to_float32(policy, rng):
    half, full = model_in(policy), model_in("float32")
    full.set_weights(half.get_weights())
    copy = in_float32(half)
    assert copy is not half and copy.name == half.name
    assert {layer.compute_dtype for layer in copy.layers} == {"float32"}
    pixels = rng.integers(0, 256, (2, 8, 8, 1)).astype(np.uint8)
    np.testing.assert_array_equal(copy(pixels), full(pixels))
