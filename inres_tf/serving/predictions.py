"""Predictions for image files, by Keras models and by SavedModels."""

import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from inres_tf import class_names, files
from inres_tf.data.folder_layout import Walk
from inres_tf.data.image_files import read_image
from inres_tf.data.images import resizer
from inres_tf.distribution.classifier import Classifier
from inres_tf.errors import UserError
from inres_tf.models.logits import check_classifier, check_weights
from inres_tf.models.precision import in_float32
from inres_tf.progress import bar
from inres_tf.serving.config import PredictConfig
from inres_tf.serving.saved_model import CLASS_NAMES, SIGNATURE


@dataclass(frozen=True)
class ImageClassifier:
    """A function from images to probabilities of classes that have names.

    Attributes:
        name: name of the model.
        shape: (height, width, channels) of an image; a height or width of None takes
            any size.
        class_names: names of the classes; their numbers if the model has no names.
        probabilities: function from uint8 images, (number, height, width, channels), to
            float32 probabilities, (number, classes).

    Example:
        >>> import numpy as np
        >>> from inres_tf import serving
        >>> model = zoo.InResNet8(input_shape=(8, 8, 1))
        >>> classifier = serving.ImageClassifier.of_model(model)
        >>> classifier.probabilities(np.zeros((2, 8, 8, 1), np.uint8)).shape
        (2, 10)
    """

    name: str
    shape: tuple[int | None, int | None, int]
    class_names: tuple[str, ...]
    probabilities: Callable[[np.ndarray], np.ndarray]

    @classmethod
    def of_model(cls, model: keras.Model) -> "ImageClassifier":
        """Returns the classifier of a Keras model, which computes in float32.

        Args:
            model: Keras classifier of pixels in [0, 255].

        Raises:
            UserError: if weights are not finite.
            ValueError: if the model is not an image classifier or its logits cannot be
                found.
        """
        check_classifier(model)
        check_weights(model)
        classifier = Classifier(in_float32(model))
        names = class_names.of(model) or _numbers(classifier.classes)

        def probabilities(images):
            return tf.nn.softmax(classifier.logits(images)).numpy()

        return cls(model.name, model.input_shape[1:], names, probabilities)

    @classmethod
    def of_saved_model(cls, path: str | os.PathLike[str]) -> "ImageClassifier":
        """Returns the classifier that `export` has written.

        Args:
            path: folder of the SavedModel.

        Raises:
            UserError: if it cannot be loaded, or is of another kind.
        """
        path = pathlib.Path(path)
        try:
            loaded = tf.saved_model.load(path)
            serve = loaded.signatures[SIGNATURE]
            shape = serve.structured_input_signature[1]["images"].shape[1:]
            classes = serve.structured_outputs["probabilities"].shape[-1]
            names = _numbers(classes)
            if (path / CLASS_NAMES).is_file():
                content = (path / CLASS_NAMES).read_text(encoding="utf-8")
                names = tuple(map(str, json.loads(content)))
            if len(names) != classes or len(shape) != 3:
                raise ValueError(
                    f"it has {classes} classes with {len(names)} names, for images of "
                    f"shape {tuple(shape)}"
                )
        except (
            LookupError,
            OSError,
            TypeError,
            ValueError,
            tf.errors.OpError,
        ) as error:
            raise UserError(
                f"{path} is damaged or not a SavedModel of train.export, which takes "
                f"`images` and returns `probabilities`: {error}"
            ) from error

        def probabilities(images):
            # The signature needs the model that it is of.
            return loaded.signatures[SIGNATURE](images=images)["probabilities"].numpy()

        return cls(path.name, tuple(shape), names, probabilities)


class PredictionsInterrupted(KeyboardInterrupt):
    """Ctrl-C in `predict`.

    Args:
        result: what `predict` would have returned for the images before it.
    """

    def __init__(self, result: dict[str, Any]) -> None:
        super().__init__()
        self.result = result


def predict(
    classifier: ImageClassifier,
    paths: Iterable[str | os.PathLike[str]],
    config: PredictConfig | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Classifies image files.

    They are read as those of `folder:PATH` in `inres_tf.data.load` and resized to the
    size that the classifier takes. What is left out of folders is counted on stderr.

    Args:
        classifier: the classifier.
        paths: image files, and folders, of which all images at any depth are taken.
        config: number of classes to name and size of batches.
        progress: whether to show a progress bar.

    Returns:
        Dict with `model`, `class_names`, `predictions` and `failed`. A prediction has
        the path of the `image`, its most probable `class`, with `class_id` and
        `probability`, and the same of the `top` classes, the most probable first. What
        failed has the path of the `image` and the `error`; the others are classified.

    Raises:
        PredictionsInterrupted: at Ctrl-C, with the predictions before it.

    Example:
        >>> import PIL.Image
        >>> from inres_tf import serving
        >>> PIL.Image.new("RGB", (50, 40)).save("photo.png")
        >>> model = zoo.InResNet20(weights="cifar10")
        >>> classifier = serving.ImageClassifier.of_model(model)
        >>> result = serving.predict(classifier, ["photo.png", "none.png"])
        >>> result["predictions"][0]["image"], len(result["predictions"][0]["top"])
        ('photo.png', 5)
        >>> result["failed"][0]["error"]
        'none.png cannot be read as an image: it is missing or not a file'
    """
    config = config or PredictConfig()
    failed: list[dict[str, str]] = []
    predictions: list[dict[str, Any]] = []
    found = bar(_find(paths, failed), "predicting", "img", disable=not progress)
    result: dict[str, Any] = {
        "model": classifier.name,
        "class_names": list(classifier.class_names),
        "predictions": predictions,
        "failed": failed,
    }
    try:
        for batch in _batches(found, classifier.shape, config.batch_size, failed):
            pixels = np.stack([pixels for _, pixels in batch])
            for (path, _), row in zip(batch, classifier.probabilities(pixels)):
                if not np.isfinite(row).all():
                    error = f"the probabilities of {path} are not finite"
                    failed.append({"image": str(path), "error": error})
                    continue
                top = [
                    {
                        "class": classifier.class_names[i],
                        "class_id": int(i),
                        "probability": float(row[i]),
                    }
                    for i in np.argsort(-row, kind="stable")[: config.top]
                ]
                predictions.append({"image": str(path), **top[0], "top": top})
    except KeyboardInterrupt as interrupt:
        raise PredictionsInterrupted(result) from interrupt
    return result


def _numbers(classes: int) -> tuple[str, ...]:
    return tuple(map(str, range(classes)))


def _find(paths, failed) -> list[pathlib.Path]:
    """Returns the files, and the images in the folders."""
    found = []
    paths = [os.fspath(path) for path in paths]
    if "" in paths:
        raise UserError("an image or folder to classify is an empty text")
    for path in (pathlib.Path(files.expand(path)) for path in paths):
        if not path.is_dir():
            found.append(path)
            continue
        walk = Walk(path / "..")
        try:
            images = walk.images(path)
        except (UserError, OSError) as error:
            failed.append({"image": str(path), "error": str(error)})
            continue
        found += images
        walk.root = path  # whose name the notes leave out
        for note in walk.notes():
            print(f"{path}: {note}", file=sys.stderr)
        if not images:
            failed.append({"image": str(path), "error": f"{path} holds no images"})
    return found


def _batches(paths, shape, size, failed) -> Iterator[list[tuple[Any, np.ndarray]]]:
    """Yields pairs of path and pixels of the images that can be read.

    Those in a batch are of one size.
    """
    batch: list[tuple[Any, np.ndarray]] = []
    for path in paths:
        try:
            pixels = _read(path, shape)
        except UserError as error:
            failed.append({"image": str(path), "error": str(error)})
            continue
        if batch and (len(batch) == size or pixels.shape != batch[0][1].shape):
            yield batch
            batch = []
        batch.append((path, pixels))
    if batch:
        yield batch


def _read(path, shape) -> np.ndarray:
    """Reads an image as a model of the given input shape takes it."""
    import PIL.Image

    height, width, channels = shape
    pixels = read_image(path).pixels
    if height == width and height is not None:
        pixels = resizer(height)(pixels)
    for needed, side in zip((height, width), pixels.shape):
        if needed not in (None, side):
            raise UserError(
                f"{path} is {pixels.shape[1]}x{pixels.shape[0]} pixels, but the model "
                f"takes images of width {width or 'any'} and height {height or 'any'}"
            )
    if channels == 1:
        pixels = np.asarray(PIL.Image.fromarray(pixels).convert("L"))[..., None]
    elif channels != 3:
        raise UserError(f"{path}: the model takes {channels} channels, not RGB or grey")
    return pixels
