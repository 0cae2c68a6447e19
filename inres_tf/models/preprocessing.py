"""Models of other scales of pixels than [0, 255], as models of pixels in [0, 255]."""

from typing import NamedTuple

import keras
import numpy as np

from inres_tf import class_names
from inres_tf.models.float_inputs import with_float_inputs
from inres_tf.models.residuals import check_functional


class Scaling(NamedTuple):
    """A linear function of pixels: (pixels - mean) / std.

    Attributes:
        mean: by channel, or for all.
        std: by channel, or for all.
        reverse: whether the channels are reversed first, from RGB to BGR.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    reverse: bool = False

    def suits(self, channels: int) -> bool:
        """Returns whether it applies to images of a number of channels."""
        return max(len(self.mean), 3 * self.reverse) in (1, channels)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Applies it to pixels, (number, height, width, channels)."""
        pixels = pixels[..., ::-1] if self.reverse else pixels
        scaled = (pixels - np.asarray(self.mean)) / np.asarray(self.std)
        return scaled.astype(np.float32)


# Those of `preprocess_input` in keras.applications, and [0, 1].
SCALINGS = {
    "none": Scaling((0.0,), (1.0,)),
    "unit": Scaling((0.0,), (255.0,)),
    "symmetric": Scaling((127.5,), (127.5,)),
    "imagenet": Scaling((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "caffe": Scaling((103.939, 116.779, 123.68), (1.0,), reverse=True),
}


def with_preprocessing(model: keras.Model, name: str) -> keras.Model:
    """Returns a model of pixels in [0, 255] that scales them for another model.

    Args:
        model: functional or Sequential Keras model of one batch of images.
        name: how its inputs are scaled: `"none"`, pixels in [0, 255]; `"unit"`, in
            [0, 1]; `"symmetric"`, in [-1, 1]; `"imagenet"`, by the mean and standard
            deviation of ImageNet; `"caffe"`, BGR minus the mean of ImageNet. The last
            three are those of `preprocess_input` in keras.applications.

    Returns:
        A model of float32 pixels with `model` in it; with `"none"`, the model itself.

    Raises:
        ValueError: if there is no such scaling, it is for colours and the images are
            grey, or the model is subclassed.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> inputs = keras.Input((1, 1, 3))
        >>> model = keras.Model(inputs, keras.layers.Flatten()(inputs))
        >>> pixels = inres_tf.models.with_preprocessing(model, "symmetric")
        >>> pixels(np.array([[[[0, 127.5, 255]]]])).numpy().tolist()
        [[-1.0, 0.0, 1.0]]
    """
    if name not in SCALINGS:
        raise ValueError(
            f"`name` must be one of {', '.join(SCALINGS)}. Received: name={name!r}"
        )
    if name == "none":
        return model
    check_functional(model)
    scaling, channels = SCALINGS[name], model.input_shape[-1]
    if not scaling.suits(channels):
        raise ValueError(
            f"The preprocessing {name!r} is of images of 3 channels, and {model.name} "
            f"takes images of {channels}."
        )
    inputs = keras.Input(batch_shape=model.input_shape, dtype="float32", name="pixels")
    x = inputs[..., ::-1] if scaling.reverse else inputs
    mean, std = (np.broadcast_to(v, channels) for v in (scaling.mean, scaling.std))
    x = keras.layers.Normalization(
        mean=mean.tolist(), variance=(std**2).tolist(), name="preprocessing"
    )(x)
    scaled = keras.Model(inputs, with_float_inputs(model)(x), name=model.name)
    class_names.assign(scaled, class_names.of(model))
    return scaled
