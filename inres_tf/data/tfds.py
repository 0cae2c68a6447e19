"""Images of TensorFlow Datasets."""

from __future__ import annotations

import os
import pathlib
import sys
import threading
import urllib.parse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from inres_tf import spelling
from inres_tf.data.images import (
    TEST_FRACTION,
    Dataset,
    Images,
    allocate,
    hold_out,
    resizer,
)
from inres_tf.errors import UserError
from inres_tf.progress import bar

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

_T = TypeVar("_T")


# Seconds that the server of a dataset has to answer.
_PATIENCE = 15


class UnlabelledError(UserError):
    """A split in which the class of an image is unknown."""


def load_tfds(
    name: str,
    data_dir: str | os.PathLike[str] | None,
    download: bool,
    image_size: int,
) -> Dataset:
    """Loads an image classification dataset of TensorFlow Datasets.

    Args:
        name: name of the dataset, with its configuration if it has several.
        data_dir: folder of the prepared datasets; None for the default one.
        download: whether to download and prepare a dataset that is not in `data_dir`.
        image_size: side length in pixels to resize the images to; 0 keeps their size.

    Returns:
        The split `train`, and `test` or `validation`, or else held-out training images.
        A split for testing in which the class of an image is unknown is not used, which
        is said on stderr.

    Raises:
        UserError: if the dataset is missing or cannot be used.
    """
    return read_tfds(
        name,
        data_dir,
        download,
        lambda builder: _read_builder(builder, name, image_size),
        "use 'digits', 'folder:PATH' or another `data_dir`, or pass `download=True` to "
        "get it from TensorFlow Datasets",
    )


def read_tfds(
    name: str,
    data_dir: str | os.PathLike[str] | None,
    download: bool,
    read: Callable[[tfds.core.DatasetBuilder], _T],
    advice: str,
) -> _T:
    """Reads a dataset of TensorFlow Datasets.

    Args:
        name: name of the dataset, with its configuration if it has several.
        data_dir: folder of the prepared datasets; None for the default one.
        download: whether to download and prepare a dataset that is not in `data_dir`.
        read: function of the dataset's builder that reads it.
        advice: what to do if the dataset is missing, for the error message.

    Returns:
        What `read` returns.

    Raises:
        UserError: if the dataset is missing, or TensorFlow Datasets fails.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow_datasets as tfds

    root = pathlib.Path(os.path.expanduser(data_dir or "~/tensorflow_datasets"))
    folder = _find_prepared(root, name)
    if folder is None:
        infos = [*root.glob("*/*/dataset_info.json")]
        infos += root.glob("*/*/*/dataset_info.json")  # with a configuration
        prepared = sorted({p.relative_to(root).parts[0] for p in infos})
        _check_exists(name, prepared)
        if not download:
            own = root / name
            configs = sorted({p.parent.parent.name for p in infos if own in p.parents})
            found = [f"{name}/{c}" for c in configs if c != name] or prepared
            raise UserError(
                f"dataset {name!r} is not in `data_dir={root}` (found there: "
                f"{', '.join(found) or 'nothing'}); {advice}"
            )
    try:
        if folder is not None:
            builder = tfds.builder_from_directory(folder)
        else:
            builder = tfds.builder(name, data_dir=root)
            _check_network(name, builder.url_infos)
            builder.download_and_prepare()
        return read(builder)
    except UserError:
        raise
    except Exception as error:  # TFDS raises many types, with long messages
        reason = str(error).strip().splitlines() or [type(error).__name__]
        action = "read from" if folder is not None else "prepared into"
        raise UserError(
            f"dataset {name!r} could not be {action} {folder or root}: {reason[0]}"
        ) from error


def _check_exists(name, prepared):
    """Raises UserError, which suggests similar names, if no dataset has this name."""
    import tensorflow_datasets as tfds

    own = name.split("/")[0].split(":")[0]
    listed = tfds.list_builders(with_community_datasets=False)
    if ":" in name or own in (*listed, *prepared):
        return
    if pathlib.Path(name).is_dir():
        hint = f"for the images in that folder, pass 'folder:{name}'"
    else:
        hint = spelling.did_you_mean(own, ["digits", *listed, *prepared])
        hint += "TensorFlow Datasets lists all at tensorflow.org/datasets"
    raise UserError(f"there is no dataset {name!r}; {hint}")


def _check_network(name, urls):
    """Raises UserError if the server of a dataset cannot be reached.

    TensorFlow Datasets would try for minutes.
    """
    import requests

    url = next((url for url in urls if url.startswith("http")), None)
    if url is None:
        return
    problems: list[Exception | None] = []

    def ask():
        try:
            requests.head(url, timeout=_PATIENCE)
            problems.append(None)
        except requests.RequestException as error:
            problems.append(error)

    # Looking up the name of the server may take any time, whatever the timeout.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    if problems != [None]:
        raise UserError(
            f"dataset {name!r} cannot be downloaded: "
            f"{urllib.parse.urlsplit(url).hostname} does not answer; check the network "
            "and its proxy, or copy a prepared dataset into `data_dir`"
        )


def _read_builder(builder, name: str, image_size: int) -> Dataset:
    """Reads the splits of an image classification dataset."""
    import tensorflow_datasets as tfds

    info = builder.info
    keys = tuple(info.supervised_keys or ())
    image, label = (info.features[k] for k in keys) if len(keys) == 2 else (None, None)
    if (
        not isinstance(image, tfds.features.Image)
        or not isinstance(label, tfds.features.ClassLabel)
        or image.np_dtype != np.uint8
    ):
        raise UserError(
            f"dataset {name!r} is not an image classification dataset: its supervised "
            f"keys must be an 8-bit image and a class label; got {keys}"
        )
    if "train" not in info.splits:
        raise UserError(
            f"dataset {name!r} has no split 'train' (it has: {', '.join(info.splits)})"
        )
    train = read_split(builder, "train", keys, name, image_size)
    for split in ("test", "validation"):
        if split in info.splits:
            try:
                test = read_split(builder, split, keys, name, image_size)
                break
            except UnlabelledError as error:
                print(f"{error}; it is not used for testing", file=sys.stderr)
    else:
        train, test = hold_out(train, TEST_FRACTION)
    return Dataset(name, train, test, tuple(label.names))


def _find_prepared(root: pathlib.Path, name: str) -> pathlib.Path | None:
    """Returns the folder of the newest prepared version of a dataset, if there is one.

    Of a name with a version, such as `cifar10:3.0.2`, it is that one. Searches the
    disk, since `tfds.builder` accesses the network first.
    """
    name, _, wanted = name.partition(":")
    infos = [p.parent for p in (root / name).glob("*/dataset_info.json")]
    versions = [p for p in infos if p.name.replace(".", "").isdigit()]
    versions = [p for p in versions if wanted in ("", p.name)]
    if not versions:
        return None
    return max(versions, key=lambda p: tuple(map(int, p.name.split("."))))


# Reading one image at a time takes several times as long.
_READ_BATCH = 512


def read_split(
    builder: tfds.core.DatasetBuilder,
    split: str,
    keys: Sequence[str],
    name: str,
    image_size: int = 0,
) -> Images:
    """Reads one split of a dataset of TensorFlow Datasets.

    Args:
        builder: builder of the prepared dataset.
        split: name of the split.
        keys: names of the image and label features.
        name: name of the dataset, for error messages.
        image_size: side length in pixels to resize the images to; 0 keeps their size.

    Returns:
        The images, in the order of the dataset.

    Raises:
        UnlabelledError: if the class of an image is unknown.
        UserError: if the images differ in size or do not fit in memory.
    """
    import tensorflow_datasets as tfds

    shape = builder.info.features[keys[0]].shape
    if image_size:
        shape = (image_size, image_size, shape[-1])
    elif None in shape[:2]:
        raise UserError(
            f"the images of dataset {name!r} differ in size; set `image_size`, such "
            "as `image_size=64`"
        )
    count = builder.info.splits[split].num_examples
    images = allocate(count, shape, name)
    labels = np.empty(count, np.int64)
    resize = resizer(image_size) if image_size else lambda image: image
    # Images of several sizes cannot be batched.
    size = 1 if image_size else _READ_BATCH
    examples = builder.as_dataset(
        split=split, as_supervised=True, decoders=_decoders(builder, keys[0])
    ).batch(size)
    done = 0
    with bar((), f"reading {split}", "img", count) as progress:
        for batch, classes in tfds.as_numpy(examples):
            if classes.min() < 0:  # the word of TensorFlow Datasets for unknown
                raise UnlabelledError(
                    f"split {split!r} of dataset {name!r} has images of unknown class, "
                    f"with the label {classes.min()}"
                )
            end = done + len(batch)
            images[done:end] = [resize(image) for image in batch]
            labels[done:end] = classes
            progress.update(end - done)
            done = end
    return Images(images, labels)


def _decoders(builder, key):
    """Decodes JPEG as Pillow does, which reads the photos of folders and predictions.

    TensorFlow's default, a faster approximation, differs by a level on average.
    """
    import tensorflow as tf
    import tensorflow_datasets as tfds

    feature = builder.info.features[key]
    if not isinstance(feature, tfds.features.Image) or feature.np_dtype != np.uint8:
        return None

    @tfds.decode.make_decoder(output_dtype=tf.uint8)
    def decode(content, feature):
        channels = feature.shape[-1]
        image = tf.cond(
            tf.io.is_jpeg(content),
            lambda: tf.io.decode_jpeg(content, channels, dct_method="INTEGER_ACCURATE"),
            lambda: tf.io.decode_image(content, channels, expand_animations=False),
        )
        return tf.ensure_shape(image, feature.shape)

    return {key: decode()}
