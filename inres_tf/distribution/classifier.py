"""A classifier of pixels as a function of arrays, compiled once."""

import functools

import numpy as np
import tensorflow as tf

from inres_tf.data.images import Images
from inres_tf.distribution.per_example import compile_per_example
from inres_tf.models.logits import logits_fn
from inres_tf.models.precision import in_float32


class Classifier:
    """Logits of a model over any number of images, a compiled batch at a time.

    The last batch is as small as it needs be: each image counts exactly once. Under the
    strategy in scope all devices share each batch.

    Args:
        model: Keras classifier of pixels; see `inres_tf.logits.logits_fn`.
        batch_size: images at a time.
    """

    def __init__(self, model, batch_size: int = 250):
        logits = logits_fn(model)
        self.batch_size, self.classes = batch_size, int(model.output_shape[-1])
        images = tf.TensorSpec((None, *model.input_shape[1:]))
        self._predict = compile_per_example(
            lambda images: tf.cast(logits(images, training=False), tf.float32), [images]
        )

    def logits(self, images) -> np.ndarray:
        """Logits of pixels (number, height, width, channels): (number, classes)."""
        starts = range(0, len(images), self.batch_size)
        batches = (images[at : at + self.batch_size] for at in starts)
        found = [self._predict(batch.astype(np.float32)) for batch in batches]
        return np.concatenate([np.empty((0, self.classes), np.float32), *found])

    def correct(self, images, labels) -> np.ndarray:
        """Whether each image is classified rightly: booleans, (number,).

        Logits with a NaN are never right.
        """
        return is_correct(self.logits(images), labels)

    def metrics(self, data: Images, prefix: str = "") -> dict[str, float]:
        """Mean cross-entropy and accuracy over labelled images."""
        logits = self.logits(data.images).astype(np.float64)
        accuracy = is_correct(logits, data.labels).mean()
        with np.errstate(invalid="ignore"):  # infinite ones give a loss of nan
            logits -= logits.max(-1, keepdims=True)
        chosen = np.take_along_axis(logits, data.labels[:, None], -1)[:, 0]
        losses = np.log(np.exp(logits).sum(-1)) - chosen
        return {
            f"{prefix}loss": float(losses.mean()),
            f"{prefix}accuracy": float(accuracy),
        }


def is_correct(logits, labels) -> np.ndarray:
    """Whether logits (number, classes) are right: those with a NaN never are."""
    return (logits.argmax(-1) == labels) & ~np.isnan(logits).any(-1)


def compiled_classifier(model, batch_size: int) -> Classifier:
    """The compiled classifier that attacks of this model share."""
    classifier = _classifier(in_float32(model), tf.distribute.get_strategy())
    classifier.batch_size = batch_size
    return classifier


@functools.lru_cache(maxsize=4)
def _classifier(model, strategy):
    del strategy  # as in `_compile`
    return Classifier(model)
