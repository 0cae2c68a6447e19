import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from inres_tf import data
from inres_tf.errors import UserError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder of tiny prepared TensorFlow Datasets, created without a network."""

    class Tiny(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.2.0")
        SIZE = (4, 4, 3)
        SUPERVISED = ("image", "label")

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(shape=self.SIZE),
                        "label": tfds.features.ClassLabel(names=["cat", "dog"]),
                    }
                ),
                supervised_keys=self.SUPERVISED,
            )

        def _split_generators(self, manager):
            return {
                "train": self._generate_examples(8),
                "test": self._generate_examples(3),
            }

        def _generate_examples(self, count):
            for i in range(count):
                size = [n or 4 + i for n in self.SIZE]
                yield i, {"image": np.full(size, i, np.uint8), "label": i % 2}

    class TinyVaried(Tiny):
        SIZE = (None, None, 3)

    class TinyNoTrain(Tiny):
        def _split_generators(self, manager):
            return {"test": self._generate_examples(3)}

    class TinyUnsupervised(Tiny):
        SUPERVISED = None

    root = tmp_path_factory.mktemp("tfds")
    for builder in (Tiny, TinyVaried, TinyNoTrain, TinyUnsupervised):
        builder(data_dir=root).download_and_prepare()
    return root


def test_prepared_dataset_loads_by_name(prepared):
    dataset = data.load("tiny", data_dir=prepared)
    assert dataset.class_names == ("cat", "dog") and dataset.shape == (4, 4, 3)
    assert (len(dataset.train), len(dataset.test)) == (8, 3)
    for split in (dataset.train, dataset.test):
        np.testing.assert_array_equal(split.images[:, 0, 0, 0] % 2, split.labels)
        assert len(np.unique(split.images)) == len(split)


def test_images_of_different_sizes_must_be_resized(prepared):
    with pytest.raises(
        UserError, match="'tiny_varied' differ in size; set --image_size"
    ):
        data.load("tiny_varied", data_dir=prepared)
    assert data.load("tiny_varied", data_dir=prepared, image_size=8).shape == (8, 8, 3)


def test_dataset_without_training_split_is_rejected(prepared):
    with pytest.raises(UserError, match=r"no split 'train' \(it has: test\)"):
        data.load("tiny_no_train", data_dir=prepared)


def test_dataset_of_other_features_is_rejected(prepared):
    with pytest.raises(UserError, match="not an image classification dataset"):
        data.load("tiny_unsupervised", data_dir=prepared)


def test_damaged_dataset_is_rejected(prepared, tmp_path):
    shutil.copytree(prepared / "tiny", tmp_path / "tiny")
    for path in (tmp_path / "tiny" / "1.2.0").glob("*train*"):
        path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(UserError, match="'tiny' could not be read from .*1.2.0"):
        data.load("tiny", data_dir=tmp_path)


def test_missing_dataset_is_reported_with_those_that_exist(prepared, tmp_path):
    existing = "tiny, tiny_no_train, tiny_unsupervised, tiny_varied"
    with pytest.raises(UserError, match=f"'cifar100' is not in .*there: {existing}"):
        data.load("cifar100", data_dir=prepared)
    with pytest.raises(UserError, match="found there: nothing"):
        data.load("cifar100", data_dir=tmp_path / "missing")
    assert not (tmp_path / "missing").exists()
