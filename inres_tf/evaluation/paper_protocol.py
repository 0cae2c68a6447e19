"""The normalisation of corrupted images in the official scripts: `--protocol=paper`."""

from collections.abc import Sequence

import keras
import numpy as np

from inres_tf.errors import UserError
from inres_tf.models.graph import graph_calls, is_graph
from inres_tf.models.preprocessing import SCALINGS


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
        UserError: if the model has no or several such layers, if other layers change
            the pixels before it, or if it only scales them to [0, 1] or [-1, 1].

    Example:
        >>> import numpy as np
        >>> from inres_tf.evaluation import paper_protocol
        >>> model = zoo.InResNet8(input_shape=(8, 8, 1))
        >>> images = np.full((2, 8, 8, 1), 150, np.uint8)
        >>> pixels = paper_protocol.normalized_by(model, images, [100.0], [50.0])
        >>> float(np.mean(model.get_layer("normalization")(pixels)).round(3))
        1.0
    """
    layer = _normalization(model)
    own_mean, own_std = (
        np.asarray(value, np.float64).reshape(-1)
        for value in (layer.mean, np.sqrt(layer.variance))
    )
    for name in ("unit", "symmetric"):
        scaling = SCALINGS[name]
        if np.allclose(own_mean, scaling.mean) and np.allclose(own_std, scaling.std):
            raise UserError(
                f"--protocol=paper replaces the statistics of the training images by "
                f"those of each corruption, but layer {layer.name!r} of model "
                f"{model.name} scales pixels like --preprocessing={name}"
            )
    return ((pixels - mean) / std * own_std + own_mean).astype(np.float32)


def _normalization(model):
    """The only `Normalization` layer of a model, which must take its pixels."""
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
    shape = [side or 8 for side in model.input_shape[1:]]
    probe = np.linspace(0, 255, 2 * int(np.prod(shape))).round().astype(np.float32)
    if not _takes(model, layers[0], probe.reshape(2, *shape)):
        raise UserError(
            "--protocol=paper needs a Normalization layer that takes the pixels, but "
            f"other layers of model {model.name} change them before "
            f"{layers[0].name!r}, such as Rescaling"
        )
    return layers[0]


def _takes(model, layer, images) -> bool:
    """Whether a layer, perhaps of a model in the model, takes its inputs unchanged."""
    for node in graph_calls(model):
        called = node.operation
        nested = is_graph(called) and layer in called._flatten_layers()
        if called is layer or nested:
            before = keras.Model(model.inputs[0], node.input_tensors[0])
            found = np.asarray(before(images))
            if found.shape != images.shape or not np.allclose(found, images):
                return False
            return called is layer or _takes(called, layer, images)
    return False
