import keras
import numpy as np
import pytest

import zoo
from inres_tf.errors import UserError
from inres_tf.evaluation.paper_protocol import normalized_by, statistics


def test_the_model_sees_images_normalised_by_the_statistics_of_all_sets(rng):
    sets = [rng.integers(20, top, (30, 8, 8, 3)).astype(np.uint8) for top in (90, 200)]
    layer = keras.layers.Normalization(
        mean=[10.0, 20.0, 30.0], variance=[4.0, 5.0, 6.0]
    )
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, layer(inputs))
    together = np.concatenate(sets)
    mean, std = statistics(sets)
    for pixels in sets:
        normalised = layer(normalized_by(model, pixels, mean, std))
        expected = (pixels - together.mean((0, 1, 2))) / together.std((0, 1, 2))
        np.testing.assert_allclose(normalised, expected, atol=1e-4)


def test_a_model_without_normalisation_is_refused():
    model = zoo.InResNet8(input_shape=(8, 8, 1), include_preprocessing=False)
    message = "needs a model with one Normalization layer.* has 0"
    with pytest.raises(UserError, match=message):
        normalized_by(model, np.zeros((2, 8, 8, 1), np.uint8), [0.0], [1.0])
