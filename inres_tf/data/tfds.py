"""Images of TensorFlow Datasets."""

import os
import pathlib

import numpy as np

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


def load_tfds(name, data_dir, download, image_size) -> Dataset:
    """A dataset of TensorFlow Datasets; see `load`."""
    return read_tfds(
        name,
        data_dir,
        download,
        lambda builder: _read_builder(builder, name, image_size),
        "give 'digits', 'folder:PATH', another --data_dir, or --download to fetch it "
        "from TensorFlow Datasets",
    )


def read_tfds(name, data_dir, download, read, advice):
    """What a function reads from a dataset of TensorFlow Datasets.

    Args:
        name: of the dataset, with its configuration if it has several.
        data_dir: folder of the prepared datasets; None for the default one.
        download: whether a dataset not in `data_dir` is downloaded and prepared.
        read: function of the dataset's builder.
        advice: what to do where it is not prepared, as the error says it.

    Raises:
        UserError: if it is neither prepared nor to be downloaded, or TensorFlow
            Datasets fails.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow_datasets as tfds

    root = pathlib.Path(data_dir or "~/tensorflow_datasets").expanduser()
    folder = _prepared(root, name)
    if folder is None and not download:
        infos = [*root.glob("*/*/dataset_info.json")]  # with configurations deeper
        infos += root.glob("*/*/*/dataset_info.json")
        found = sorted({p.relative_to(root).parts[0] for p in infos})
        raise UserError(
            f"dataset {name!r} is not in --data_dir={root} (found there: "
            f"{', '.join(found) or 'nothing'}); {advice}"
        )
    try:
        if folder is not None:
            builder = tfds.builder_from_directory(folder)
        else:
            builder = tfds.builder(name, data_dir=root)
            builder.download_and_prepare()
        return read(builder)
    except UserError:
        raise
    except Exception as error:  # TFDS raises of many kinds, many lines long
        reason = str(error).strip().splitlines() or [type(error).__name__]
        what = "read from" if folder is not None else "prepared into"
        raise UserError(
            f"dataset {name!r} could not be {what} {folder or root}: {reason[0]}"
        ) from error


def _read_builder(builder, name, image_size) -> Dataset:
    """The splits of a TensorFlow dataset, if it is an image classification one."""
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
            f"dataset {name!r} is no image classification dataset: its supervised keys "
            f"are {keys}, where an 8-bit image and a class are needed"
        )
    tests = [s for s in ("test", "validation") if s in info.splits]
    if "train" not in info.splits:
        raise UserError(
            f"dataset {name!r} has no split 'train' (it has: {', '.join(info.splits)})"
        )
    train = read_split(builder, "train", keys, name, image_size)
    if tests:
        test = read_split(builder, tests[0], keys, name, image_size)
    else:
        train, test = hold_out(train, TEST_FRACTION)
    return Dataset(name, train, test, tuple(label.names))


def _prepared(root: pathlib.Path, name: str) -> pathlib.Path | None:
    """Folder of the newest prepared version of a dataset; None if there is none.

    Looked for on the disk, since `tfds.builder` asks the network first.
    """
    infos = [p.parent for p in (root / name).glob("*/dataset_info.json")]
    versions = [p for p in infos if p.name.replace(".", "").isdigit()]
    if not versions:
        return None
    return max(versions, key=lambda p: tuple(map(int, p.name.split("."))))


def read_split(builder, split, keys, name, image_size=0) -> Images:
    """One split of a TensorFlow dataset.

    Args:
        builder: the prepared dataset.
        split: the split's name.
        keys: the features that are the image and the label.
        name: the dataset's, for errors.
        image_size: side in pixels to resize to; 0 keeps the images as they are.

    Raises:
        UserError: if the images differ in size or memory cannot hold them.
    """
    import tensorflow_datasets as tfds

    shape = builder.info.features[keys[0]].shape
    if image_size:
        shape = (image_size, image_size, shape[-1])
    elif None in shape[:2]:
        raise UserError(
            f"the images of dataset {name!r} differ in size: give --image_size, such "
            "as --image_size=64"
        )
    count = builder.info.splits[split].num_examples
    images = allocate(count, shape, name)
    labels = np.empty(count, np.int64)
    resize = resizer(image_size) if image_size else lambda image: image
    rows = tfds.as_numpy(builder.as_dataset(split=split, as_supervised=True))
    for i, (image, label) in enumerate(bar(rows, f"reading {split}", "img", count)):
        images[i], labels[i] = resize(image), label
    return Images(images, labels)
