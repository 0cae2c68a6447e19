"""The normalisation of corrupted images in the official scripts: `--protocol=paper`."""

import keras
import numpy as np

from inres_tf.errors import UserError


def normalized_by_own_statistics(model: keras.Model, pixels: np.ndarray) -> np.ndarray:
    """Returns pixels that the model normalises as the official scripts do.

    The scripts normalise a corrupted set with the mean and standard deviation of each
    channel of this set, in place of those of the training images.

    Args:
        model: Keras classifier with one `Normalization` layer.
        pixels: the corrupted set, uint8, (number, height, width, channels).

    Returns:
        Pixels that the layer maps to the normalised set: float32, of the same shape.

    Raises:
        UserError: if the model has no or several such layers.
    """
    layers = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.Normalization)
    ]
    if len(layers) != 1:
        raise UserError(
            "--protocol=paper needs a model with one Normalization layer, in place of "
            "which each corrupted set is normalised with its own statistics; model "
            f"{model.name} has {len(layers)}"
        )
    mean, std = (
        np.asarray(value, np.float64).reshape(-1)
        for value in (layers[0].mean, np.sqrt(layers[0].variance))
    )
    own_mean = pixels.mean((0, 1, 2), dtype=np.float64)
    own_std = pixels.std((0, 1, 2), dtype=np.float64)
    return ((pixels - own_mean) / own_std * std + mean).astype(np.float32)
