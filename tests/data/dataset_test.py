import shutil

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from inres_tf import data
from inres_tf.data import DataConfig, Images, images
from inres_tf.errors import UserError


def write_images(root, classes, count=5, size=(6, 5)):
    """Images of one colour a class, the shade counting up."""
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(count):
            color = [0, 0, 0]
            color[label] = 100 + i
            PIL.Image.new("RGB", size, tuple(color)).save(root / name / f"{i}.png")


def test_digits_are_the_real_ones(digits):
    from sklearn.datasets import load_digits

    raw = load_digits()
    assert digits.shape == (8, 8, 1)
    assert len(digits.train) + len(digits.test) == len(raw.target) == 1797
    assert digits.class_names == tuple("0123456789")
    assert digits.augmentation == "crop"
    together = np.concatenate([digits.train.images, digits.test.images])[..., 0]
    assert together.dtype == np.uint8 and together.max() == 255
    found = {(image / 255 * 16).round().astype(int).tobytes() for image in together}
    assert found == {image.astype(int).tobytes() for image in raw.images}
    assert np.bincount(digits.test.labels).min() >= 34


def test_holding_out_takes_a_part_of_each_class_always_the_same():
    labels = np.repeat([0, 1, 2], [10, 20, 2])
    images = Images(np.arange(32, dtype=np.uint8).reshape(32, 1, 1, 1), labels)
    rest, out = data.hold_out(images, 0.2)
    np.testing.assert_array_equal(np.bincount(out.labels), [2, 4, 1])
    both = np.concatenate([rest.images, out.images]).ravel()
    np.testing.assert_array_equal(np.sort(both), np.arange(32))
    np.testing.assert_array_equal(data.hold_out(images, 0.2)[1].images, out.images)


def test_folder_with_a_sub_folder_a_class(tmp_path):
    write_images(tmp_path, ["cat", "dog", "eel"])
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "cat" / ".DS_Store").write_bytes(b"junk")
    found = data.load(f"folder:{tmp_path}")
    assert found.class_names == ("cat", "dog", "eel") and found.shape == (5, 6, 3)
    assert len(found.train) == 12 and len(found.test) == 3
    assert found.augmentation == "crop_flip"
    for part in (found.train, found.test):
        np.testing.assert_array_equal(part.images[:, 0, 0].argmax(-1), part.labels)
    assert len(set(found.train.labels[:6])) > 1
    again = data.load(f"folder:{tmp_path}")
    np.testing.assert_array_equal(again.test.images, found.test.images)


def test_folder_with_train_and_test(tmp_path):
    write_images(tmp_path / "train", ["a", "b"], count=4)
    write_images(tmp_path / "val", ["a", "b"], count=2)
    found = data.load(f"folder:{tmp_path}")
    assert (len(found.train), len(found.test)) == (8, 4)
    write_images(tmp_path / "test", ["a", "c"])
    with pytest.raises(UserError, match=r"different classes: a, b and a, c"):
        data.load(f"folder:{tmp_path}")


def test_folder_images_are_resized_when_asked(tmp_path):
    write_images(tmp_path, ["a", "b"])
    PIL.Image.new("L", (9, 9), 50).save(tmp_path / "b" / "other.png")
    with pytest.raises(UserError, match=r"other.png is 9x9: give --image_size"):
        data.load(f"folder:{tmp_path}")
    assert data.load(f"folder:{tmp_path}", image_size=16).shape == (16, 16, 3)
    assert data.load("digits", image_size=12).shape == (12, 12, 1)


def test_folder_errors_name_the_culprit(tmp_path):
    with pytest.raises(UserError, match="missing is not a folder"):
        data.load(f"folder:{tmp_path / 'missing'}")
    write_images(tmp_path, ["only"])
    with pytest.raises(
        UserError, match=r"holds 1 class folder\(s\) \(only\); .* at least 2"
    ):
        data.load(f"folder:{tmp_path}")
    write_images(tmp_path, ["more"], count=1)
    with pytest.raises(UserError, match=r"more holds 1 image\(s\)"):
        data.load(f"folder:{tmp_path}")
    write_images(tmp_path, ["rest"])
    PIL.Image.new("RGB", (6, 5)).save(tmp_path / "more" / "1.png")
    whole = (tmp_path / "rest" / "3.png").read_bytes()
    for content in (b"not an image", whole[: len(whole) // 2], b""):
        (tmp_path / "rest" / "3.png").write_bytes(content)
        with pytest.raises(UserError, match=r"rest/3.png cannot be read as an image"):
            data.load(f"folder:{tmp_path}")


def test_folder_edges(tmp_path):
    with pytest.raises(UserError, match="needs a path"):
        data.load("folder:")
    write_images(tmp_path / "train", ["a", "b"])
    write_images(tmp_path / "validation", ["a", "b"])
    assert data.load(f"folder:{tmp_path}").class_names == ("a", "b")
    (tmp_path / "train" / "a" / "9.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(UserError, match=r"a/9.png cannot be read"):
        data.load(f"folder:{tmp_path}")
    few = Images(np.zeros((2, 1, 1, 1), np.uint8), np.array([0, 1]))
    with pytest.raises(UserError, match="2 images it takes"):
        data.hold_out(few, 0.5)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder of two tiny prepared TensorFlow Datasets, made without a network."""

    class Tiny(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.2.0")
        SIZE = (4, 4, 3)

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(shape=self.SIZE),
                        "label": tfds.features.ClassLabel(names=["cat", "dog"]),
                    }
                ),
                supervised_keys=("image", "label"),
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

    root = tmp_path_factory.mktemp("tfds")
    for builder in (Tiny, TinyVaried, TinyNoTrain):
        builder(data_dir=root).download_and_prepare()
    return root


def test_tensorflow_datasets_by_name(prepared):
    found = data.load("tiny", data_dir=prepared)
    assert found.class_names == ("cat", "dog") and found.shape == (4, 4, 3)
    assert (len(found.train), len(found.test)) == (8, 3)
    for part in (found.train, found.test):
        np.testing.assert_array_equal(part.images[:, 0, 0, 0] % 2, part.labels)
        assert len(np.unique(part.images)) == len(part)


def test_tensorflow_datasets_of_varied_sizes(prepared):
    with pytest.raises(
        UserError, match="'tiny_varied' differ in size: give --image_size"
    ):
        data.load("tiny_varied", data_dir=prepared)
    assert data.load("tiny_varied", data_dir=prepared, image_size=8).shape == (8, 8, 3)


def test_tensorflow_datasets_that_cannot_be_used(prepared, tmp_path):
    with pytest.raises(UserError, match=r"no split 'train' \(it has: test\)"):
        data.load("tiny_no_train", data_dir=prepared)
    shutil.copytree(prepared / "tiny", tmp_path / "tiny")
    for path in (tmp_path / "tiny" / "1.2.0").glob("*train*"):
        path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(UserError, match="'tiny' could not be read from .*1.2.0"):
        data.load("tiny", data_dir=tmp_path)


def test_dataset_not_in_data_dir_is_named_with_those_that_are(prepared, tmp_path):
    with pytest.raises(
        UserError,
        match=r"'cifar100' is not in .*there: tiny, tiny_no_train, tiny_varied",
    ):
        data.load("cifar100", data_dir=prepared)
    with pytest.raises(UserError, match="found there: nothing"):
        data.load("cifar100", data_dir=tmp_path / "missing")
    assert not (tmp_path / "missing").exists()


def test_a_dataset_larger_than_memory_is_refused(monkeypatch):
    with pytest.raises(UserError, match="'huge' takes .* GiB decoded"):
        images.allocate(10**9, (224, 224, 3), "huge")


def test_image_size_is_checked():
    with pytest.raises(UserError, match="--image_size must be from 0 to 4096; got -3"):
        DataConfig(image_size=-3)
