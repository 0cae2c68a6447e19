"""SavedModels for serving: uint8 images in, logits, probabilities and classes out."""

import os
import pathlib

import keras
import tensorflow as tf

from inres_tf import class_names
from inres_tf.errors import UserError
from inres_tf.files import atomic, write_json
from inres_tf.models.logits import check_classifier, check_weights, logits_fn
from inres_tf.models.precision import in_float32

SIGNATURE = "serving_default"
CLASS_NAMES = pathlib.Path("assets.extra", "class_names.json")


def export(
    model: keras.Model, path: str | os.PathLike[str], overwrite: bool = False
) -> pathlib.Path:
    """Writes a SavedModel that needs only TensorFlow to be served.

    Its `serving_default` takes `images`, uint8 (batch, height, width, channels) of any
    batch size, and returns `logits` (batch, classes), `probabilities` (batch, classes)
    and `class_ids` (batch,) int64. It computes in float32. If the classes of the model
    have names, `assets.extra/class_names.json` lists them in the order of the ids.

    Args:
        model: Keras classifier of pixels in [0, 255].
        path: folder to write; after an error it is left as it was.
        overwrite: whether to replace an existing SavedModel.

    Returns:
        The path.

    Raises:
        UserError: if the path exists and must not be replaced, or weights are not
            finite.
        ValueError: if the model is not an image classifier or its logits cannot be
            found.

    Example:
        >>> import tensorflow as tf
        >>> model = zoo.InResNet8(input_shape=(8, 8, 1))
        >>> path = inres_tf.serving.export(model, "in_resnet8.savedmodel")
        >>> serve = tf.saved_model.load(path).signatures["serving_default"]
        >>> images = tf.zeros((2, 8, 8, 1), tf.uint8)
        >>> serve(images=images)["probabilities"].shape.as_list()
        [2, 10]
    """
    path = pathlib.Path(path)
    if path.exists():
        if not overwrite:
            raise UserError(
                f"{path} exists; choose another --output or pass --overwrite"
            )
        if not (path / "saved_model.pb").is_file():
            raise UserError(
                f"{path} exists and is not a SavedModel; choose another --output"
            )
    check_classifier(model)
    check_weights(model)
    names = class_names.of(model)
    model = in_float32(model)
    logits_of, shape = logits_fn(model), (None, *model.input_shape[1:])

    def serve(images):
        # The signature alone does not refuse images of another size.
        images = tf.ensure_shape(images, shape)
        logits = logits_of(tf.cast(images, tf.float32), training=False)
        return {
            "logits": logits,
            "probabilities": tf.nn.softmax(logits),
            "class_ids": tf.argmax(logits, -1),
        }

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        SIGNATURE,
        serve,
        [tf.TensorSpec(shape, tf.uint8, name="images")],
    )
    with atomic(path) as temporary:
        archive.write_out(temporary, verbose=False)
        if names is not None:
            write_json(temporary / CLASS_NAMES, list(names))
    return path
