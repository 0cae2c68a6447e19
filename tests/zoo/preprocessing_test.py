import keras
import numpy as np
import pytest

import zoo


@pytest.mark.parametrize("name", ["in_resnet8", "in_resnet50", "cpl_tiny"])
@pytest.mark.parametrize("channels", [1, 3])
def test_models_that_do_not_normalise_take_the_result(name, channels, rng):
    """Both forms of a model agree."""
    shape = (32, 32, channels)
    whole = zoo.get_model(name, input_shape=shape, classes=3)
    bare = zoo.get_model(
        name, input_shape=shape, classes=3, include_preprocessing=False
    )
    bare.set_weights(whole.get_weights()[-len(bare.weights) :])
    pixels = rng.integers(0, 256, (2, *shape)).astype(np.uint8)
    values = zoo.preprocess_input(pixels, model=name)
    assert isinstance(values, np.ndarray) and values.dtype == np.float32
    np.testing.assert_allclose(bare(values), whole(pixels), atol=1e-5)
    one = zoo.preprocess_input(keras.ops.convert_to_tensor(pixels[0]), model=name)
    assert keras.ops.is_tensor(one)
    np.testing.assert_allclose(one, values[0], atol=1e-6)


def test_models_normalise_by_default(rng):
    pixels = rng.integers(0, 256, (2, 8, 8, 3))
    assert zoo.preprocess_input(pixels) is pixels
    assert zoo.preprocess_input(pixels, data_format="channels_last") is pixels


def test_mistakes():
    with pytest.raises(ValueError, match=r"Received: x of shape \(8, 8\)"):
        zoo.preprocess_input(np.zeros((8, 8)))
    with pytest.raises(ValueError, match="Received: data_format='channels_first'"):
        zoo.preprocess_input(np.zeros((3, 8, 8)), "channels_first")
    with pytest.raises(ValueError, match="no model 'in_resnet21'"):
        zoo.preprocess_input(np.zeros((8, 8, 3)), model="in_resnet21")
