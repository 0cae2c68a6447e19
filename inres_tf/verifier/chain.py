"""A saved chain of layers as a function of images, with its Lipschitz constants."""

import dataclasses
import math
import os
from typing import NamedTuple

import numpy as np

from inres_tf.progress import bar
from inres_tf.verifier import archive
from inres_tf.verifier.archive import SavedLayer
from inres_tf.verifier.flows import neural_ode
from inres_tf.verifier.maps import MAPS, Map
from inres_tf.verifier.operators import distances

_MAPS = MAPS | {"inres_tf>NeuralODE": neural_ode}


class Link(NamedTuple):
    """A layer of a chain.

    Attributes:
        name: name of the layer.
        kind: its class.
        map: what it computes.
    """

    name: str
    kind: str
    map: Map


@dataclasses.dataclass(frozen=True)
class Chain:
    """A classifier of images whose layers follow each other.

    Attributes:
        shape: (height, width, channels) of an image.
        links: the layers, without the softmax after the logits.
    """

    shape: tuple[int, ...]
    links: tuple[Link, ...]

    def logits(self, images: np.ndarray) -> np.ndarray:
        """The logits of images.

        Args:
            images: pixels in [0, 255], (batch, height, width, channels).

        Returns:
            Float64, (batch, classes).
        """
        x = np.asarray(images, np.float64)
        for link in self.links:
            x = link.map.apply(x)
        return x

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.links[-1].map.shape[0]

    def constants(self) -> np.ndarray:
        """Lipschitz constants of the differences of two logits.

        The features before the last layer move at most by the product of the constants
        of the layers, times the distance of two images. The difference of the logits i
        and j moves at most by ‖w_i - w_j‖ times that, w being the rows of the last
        layer. If the last layer is not dense, the logits are the features.

        Returns:
            (classes, classes), per pixel value, which lies in [0, 255].
        """
        head = self.links[-1].map.matrix
        features = self.links if head is None else self.links[:-1]
        product = math.prod(link.map.lipschitz for link in features)
        rows = np.eye(self.classes) if head is None else head.T
        return product * distances(rows)


def read_chain(path: str | os.PathLike[str], progress: bool = False) -> Chain:
    """Reads a chain from a `.keras` file and bounds its Lipschitz constants.

    Args:
        path: a `.keras` file.
        progress: whether to show a progress bar.

    Raises:
        UserError: if the file is damaged or not a Keras model, its layers do not form a
            chain, or one of them cannot be verified.

    Example:
        >>> import keras
        >>> inputs = keras.Input((2, 2, 1))
        >>> logits = keras.layers.Dense(3)(keras.layers.Flatten()(inputs))
        >>> keras.Model(inputs, logits).save("model.keras")
        >>> chain = inres_tf.verifier.read_chain("model.keras")
        >>> [link.kind for link in chain.links], chain.constants().shape
        (['Flatten', 'Dense'], (3, 3))
    """
    shape, saved = archive.read(path)
    links: list[Link] = []
    current = shape
    for layer in bar(_until_logits(saved), "bounding", "layer", disable=not progress):
        links.append(Link(layer.name, layer.kind, _map(layer, current)))
        current = links[-1].map.shape
    if len(current) != 1 or current[0] < 2:
        raise saved[-1].error(
            f"must return the logits of at least 2 classes; got shape {current}"
        )
    return Chain(shape, tuple(links))


def _map(layer: SavedLayer, shape: tuple[int, ...]) -> Map:
    if layer.kind not in _MAPS:
        names = ", ".join(sorted(kind.removeprefix("inres_tf>") for kind in _MAPS))
        raise layer.error(f"cannot be verified; the layers that can are {names}")
    try:
        made = _MAPS[layer.kind](layer, shape)
        if made.apply(np.zeros((1, *shape))).shape[1:] != made.shape:
            raise ValueError("its weights do not fit its inputs")
        return made
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise layer.error(f"cannot be read: {error!r}") from error


def _until_logits(layers: list[SavedLayer]) -> list[SavedLayer]:
    """The layers without a softmax after the logits."""
    *before, last = layers
    has_softmax = last.settings.get("activation") == "softmax"
    if last.kind == "Softmax" or (last.kind == "Activation" and has_softmax):
        return before
    if has_softmax:
        settings = {**last.settings, "activation": "linear"}
        last = dataclasses.replace(last, settings=settings)
    return [*before, last]
