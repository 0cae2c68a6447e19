import shutil
import threading
import types

import numpy as np
import pytest
import requests
import tensorflow as tf
import tensorflow_datasets as tfds

from inres_tf import data
from inres_tf.data import image_files
from inres_tf.errors import UserError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder of tiny prepared TensorFlow Datasets, created without a network."""

    class Tiny(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.2.0")
        SIZE = (4, 4, 3)
        SUPERVISED = ("image", "label")
        UNLABELLED = ()

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
                "train": self._generate_examples(8, "train"),
                "test": self._generate_examples(3, "test"),
            }

        def _generate_examples(self, count, split):
            for i in range(count):
                size = [n or 4 + i for n in self.SIZE]
                label = -1 if split in self.UNLABELLED and i else i % 2
                yield i, {"image": np.full(size, i, np.uint8), "label": label}

    class TinyVaried(Tiny):
        SIZE = (None, None, 3)

    class TinyNoTrain(Tiny):
        def _split_generators(self, manager):
            return {"test": self._generate_examples(3, "test")}

    class TinyUnsupervised(Tiny):
        SUPERVISED = None

    class TinyHidden(Tiny):
        UNLABELLED = ("test",)

        def _split_generators(self, manager):
            sizes = {"train": 8, "test": 3, "validation": 5}
            return {s: self._generate_examples(n, s) for s, n in sizes.items()}

    class TinyHeldOut(Tiny):
        UNLABELLED = ("test",)

    class TinyUnlabelled(Tiny):
        UNLABELLED = ("train",)

    class TinyPhotos(Tiny):
        def _info(self):
            image = tfds.features.Image(shape=(24, 24, 3), encoding_format="jpeg")
            label = tfds.features.ClassLabel(names=["cat", "dog"])
            features = tfds.features.FeaturesDict({"image": image, "label": label})
            return tfds.core.DatasetInfo(
                builder=self, features=features, supervised_keys=("image", "label")
            )

        def _generate_examples(self, count, split):
            noise = np.random.default_rng(count).integers(0, 256, (count, 24, 24, 3))
            for i, pixels in enumerate(noise.astype(np.uint8)):
                yield i, {"image": pixels, "label": i % 2}

    root = tmp_path_factory.mktemp("tfds")
    for builder in (
        Tiny,
        TinyVaried,
        TinyNoTrain,
        TinyUnsupervised,
        TinyHidden,
        TinyHeldOut,
        TinyUnlabelled,
        TinyPhotos,
    ):
        builder(data_dir=root).download_and_prepare()
    return root


def test_prepared_dataset_loads_by_name(prepared):
    dataset = data.load("tiny", data_dir=prepared)
    assert dataset.class_names == ("cat", "dog") and dataset.shape == (4, 4, 3)
    assert (len(dataset.train), len(dataset.test)) == (8, 3)
    for split in (dataset.train, dataset.test):
        np.testing.assert_array_equal(split.images[:, 0, 0, 0] % 2, split.labels)
        assert len(np.unique(split.images)) == len(split)


def test_jpeg_has_the_pixels_that_folders_and_predictions_have(prepared, tmp_path):
    """All decode as Pillow does; TensorFlow's default would differ."""
    dataset = data.load("tiny_photos", data_dir=prepared)
    builder = tfds.builder("tiny_photos", data_dir=prepared)
    raw = {"image": tfds.decode.SkipDecoding()}
    differing = []
    for example, pixels in zip(
        builder.as_dataset(split="train", decoders=raw), dataset.train.images
    ):
        content = example["image"].numpy()
        file = tmp_path / "photo.jpg"
        file.write_bytes(content)
        np.testing.assert_array_equal(pixels, image_files.read_image(file).pixels)
        differing.append((tf.io.decode_jpeg(content).numpy() != pixels).mean())
    assert len(differing) == 8 and min(differing) > 0.1


def test_images_of_different_sizes_must_be_resized(prepared):
    with pytest.raises(
        UserError,
        match="'tiny_varied' differ in size; set `image_size`, such as `image_size=64`",
    ):
        data.load("tiny_varied", data_dir=prepared)
    assert data.load("tiny_varied", data_dir=prepared, image_size=8).shape == (8, 8, 3)


def test_dataset_without_training_split_is_rejected(prepared):
    with pytest.raises(UserError, match=r"no split 'train' \(it has: test\)"):
        data.load("tiny_no_train", data_dir=prepared)


def test_dataset_of_other_features_is_rejected(prepared):
    with pytest.raises(UserError, match="not an image classification dataset"):
        data.load("tiny_unsupervised", data_dir=prepared)


@pytest.mark.parametrize(
    ("name", "train", "test"), [("tiny_hidden", 8, 5), ("tiny_held_out", 6, 2)]
)
def test_a_test_split_of_unknown_classes_is_not_used(
    name, train, test, prepared, capsys
):
    dataset = data.load(name, data_dir=prepared)
    assert (len(dataset.train), len(dataset.test)) == (train, test)
    assert dataset.test.labels.min() == 0
    said = capsys.readouterr().err
    assert f"'test' of dataset '{name}' has images of unknown class, with the" in said


def test_training_images_of_unknown_class_are_refused(prepared):
    with pytest.raises(UserError, match="split 'train' .* unknown class.* label -1"):
        data.load("tiny_unlabelled", data_dir=prepared)


def test_damaged_dataset_is_rejected(prepared, tmp_path):
    shutil.copytree(prepared / "tiny", tmp_path / "tiny")
    for path in (tmp_path / "tiny" / "1.2.0").glob("*train*"):
        path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(UserError, match="'tiny' could not be read from .*1.2.0"):
        data.load("tiny", data_dir=tmp_path)


def test_the_first_line_of_an_error_is_shown(prepared, monkeypatch):
    def fail(folder):
        raise ValueError("what happened\nadvice\nmore advice")

    monkeypatch.setattr(tfds, "builder_from_directory", fail)
    with pytest.raises(UserError, match="'tiny' could not .*1.2.0: what happened$"):
        data.load("tiny", data_dir=prepared)


def test_missing_dataset_is_reported_with_those_that_exist(prepared, tmp_path):
    existing = "tiny, tiny_held_out, tiny_hidden, tiny_no_train, .* tiny_varied"
    with pytest.raises(UserError, match=f"'cifar100' is not in .*there: {existing}"):
        data.load("cifar100", data_dir=prepared)
    with pytest.raises(UserError, match="found there: nothing"):
        data.load("cifar100", data_dir=tmp_path / "missing")
    assert not (tmp_path / "missing").exists()


def test_the_newest_version_is_read(prepared, tmp_path):
    """Versions are numbers: 10.0.0 is newer than 9.0.0."""
    (source,) = (prepared / "tiny").iterdir()
    for version in ("9.0.0", "10.0.0"):
        folder = tmp_path / "tiny" / version
        shutil.copytree(source, folder)
        info = folder / "dataset_info.json"
        info.write_text(info.read_text().replace(source.name, version))
    for path in (tmp_path / "tiny" / "9.0.0").glob("*.tfrecord*"):
        path.write_bytes(b"")
    assert len(data.load("tiny", tmp_path).train) == 8
    assert len(data.load("tiny:10.0.0", tmp_path).train) == 8
    with pytest.raises(UserError, match="could not be read from .*9.0.0"):
        data.load("tiny:9.0.0", tmp_path)
    with pytest.raises(UserError, match="'tiny:8.0.0' is not in"):
        data.load("tiny:8.0.0", tmp_path)


def test_a_configuration_must_be_named(prepared, tmp_path):
    """Which one TensorFlow Datasets would take is not what the name says."""
    (source,) = (prepared / "tiny").iterdir()
    for config in ("fog_3", "snow_1"):
        shutil.copytree(source, tmp_path / "tiny" / config / source.name)
    with pytest.raises(UserError, match="found there: tiny/fog_3, tiny/snow_1"):
        data.load("tiny", tmp_path)


@pytest.fixture
def downloads(monkeypatch):
    """Datasets that are downloaded, from a server that is set."""
    prepared = []

    def builder(name, data_dir):
        return types.SimpleNamespace(
            url_infos={"ftp://old": None, "https://server.org/a.zip": None},
            download_and_prepare=lambda: prepared.append(name) or 1 / 0,
        )

    monkeypatch.setattr(tfds, "builder", builder)
    return prepared


def test_a_server_that_cannot_be_reached(downloads, tmp_path, monkeypatch):
    def fail(url, timeout):
        raise requests.ConnectionError(url)

    monkeypatch.setattr(requests, "head", fail)
    with pytest.raises(UserError, match="'mnist' cannot be .*: server.org does not"):
        data.load("mnist", tmp_path, download=True)
    assert downloads == []


def test_a_server_that_never_answers(downloads, tmp_path, monkeypatch):
    asked = threading.Event()
    monkeypatch.setattr(requests, "head", lambda url, timeout: asked.wait())
    monkeypatch.setattr("inres_tf.data.tfds._PATIENCE", 0.1)
    with pytest.raises(UserError, match="server.org does not answer; .* `data_dir`"):
        data.load("mnist", tmp_path, download=True)
    asked.set()
    assert downloads == []


def test_a_server_that_answers(downloads, tmp_path, monkeypatch):
    """Whatever it answers: it may not allow this question."""
    asked = []

    def head(url, timeout):
        assert timeout <= 15
        asked.append(url)
        return requests.Response()

    monkeypatch.setattr(requests, "head", head)
    with pytest.raises(UserError, match="could not be prepared .* division by zero"):
        data.load("mnist", tmp_path, download=True)
    assert (downloads, asked) == (["mnist"], ["https://server.org/a.zip"])
