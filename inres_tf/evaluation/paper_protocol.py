"""The normalisation of corrupted images in the official scripts: `--protocol=paper`."""

from collections.abc import Sequence

import keras
import numpy as np

from inres_tf.errors import UserError


def statistics(sets: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean and standard deviation of each channel over several sets.

    Args:
        sets: pixels, uint8, (number, height, width, channels) each.

    Returns:
        Both as float64, (channels,).

    Example:
        >>> import numpy as np
        >>> from inres_tf.evaluation import paper_protocol
        >>> sets = [np.full((2, 8, 8, 1), value, np.uint8) for value in (50, 150)]
        >>> paper_protocol.statistics(sets)
        (array([100.]), array([50.]))
    """
    number = sum(pixels[..., 0].size for pixels in sets)
    total = sum(pixels.sum((0, 1, 2), dtype=np.float64) for pixels in sets)
    mean = total / number
    squares = sum(((pixels - mean) ** 2).sum((0, 1, 2)) for pixels in sets)
    return mean, np.sqrt(squares / number)


def normalized_by(
    model: keras.Model, pixels: np.ndarray, mean: np.ndarray, std: np.ndarray
) -> np.ndarray:
    """Returns pixels that a model normalises with other statistics than its own.

    The official scripts read a file of CIFAR-10-C, which holds a corruption at all five
    severities, and normalise it with its own `statistics`, in place of those of the
    training images.

    Args:
        model: Keras classifier with one `Normalization` layer.
        pixels: pixels, uint8, (number, height, width, channels).
        mean: the mean of each channel, (channels,).
        std: the standard deviation of each channel, (channels,).

    Returns:
        Pixels that the layer maps to `(pixels - mean) / std`: float32, of the same
        shape.

    Raises:
        UserError: if the model has no or several such layers.

    Example:
        >>> import numpy as np
        >>> from inres_tf.evaluation import paper_protocol
        >>> model = zoo.InResNet8(input_shape=(8, 8, 1))
        >>> images = np.full((2, 8, 8, 1), 150, np.uint8)
        >>> pixels = paper_protocol.normalized_by(model, images, [100.0], [50.0])
        >>> float(np.mean(model.get_layer("normalization")(pixels)).round(3))
        1.0
    """
    layers = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.Normalization)
    ]
    if len(layers) != 1:
        raise UserError(
            "--protocol=paper needs a model with one Normalization layer, in place of "
            "which each corruption is normalised with its own statistics; model "
            f"{model.name} has {len(layers)}"
        )
    own_mean, own_std = (
        np.asarray(value, np.float64).reshape(-1)
        for value in (layers[0].mean, np.sqrt(layers[0].variance))
    )
    return ((pixels - mean) / std * own_std + own_mean).astype(np.float32)
