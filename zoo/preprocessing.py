"""Pixels for models, as in `keras.applications`."""

from typing import Any

import keras
import numpy as np

from zoo import builder, registry


def preprocess_input(
    x: Any, data_format: str | None = None, model: str | None = None
) -> Any:
    """Prepares pixels for a model.

    By default nothing changes: models of the zoo normalise pixels themselves, as
    EfficientNet does in `keras.applications`. For a model constructed with
    `include_preprocessing=False`, give its name.

    Args:
        x: pixels in [0, 255], (height, width, channels) or (number, height, width,
            channels); an array or a tensor.
        data_format: "channels_last" or None, which means the same.
        model: name of a model that does not normalise pixels, such as `"in_resnet20"`.

    Returns:
        `x` itself or, with `model`, its normalised values as float32.

    Raises:
        ValueError: for another shape or `data_format`, or if the model is unknown.

    Example:
        >>> import numpy as np
        >>> pixels = np.full((1, 32, 32, 3), 255)
        >>> zoo.preprocess_input(pixels) is pixels
        True
        >>> float(zoo.preprocess_input(pixels, model="in_resnet50").max())
        1.0
    """
    if data_format not in (None, "channels_last"):
        raise ValueError(
            "`data_format` must be 'channels_last', the only one of the zoo. Received: "
            f"data_format={data_format!r}"
        )
    if len(np.shape(x)) not in (3, 4):
        raise ValueError(
            "`x` must have the shape (height, width, channels) or (number, height, "
            f"width, channels). Received: x of shape {tuple(np.shape(x))}"
        )
    if model is None:
        return x
    family, size, _ = registry.find(model)
    tensor = keras.ops.convert_to_tensor(x, "float32")
    values = builder.normalization(tensor, family.networks[size].style)
    return values if keras.ops.is_tensor(x) else keras.ops.convert_to_numpy(values)
