import numpy as np
import PIL.Image
import pytest

from inres_tf import data
from inres_tf.errors import UserError


def write_images(root, classes, count=5, size=(6, 5)):
    """Writes images of one colour per class, in different shades."""
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(count):
            color = [0, 0, 0]
            color[label] = 100 + i
            PIL.Image.new("RGB", size, tuple(color)).save(root / name / f"{i}.png")


def test_folder_with_one_sub_folder_per_class(tmp_path):
    write_images(tmp_path, ["cat", "dog", "eel"])
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "cat" / ".DS_Store").write_bytes(b"junk")
    dataset = data.load(f"folder:{tmp_path}")
    assert dataset.class_names == ("cat", "dog", "eel") and dataset.shape == (5, 6, 3)
    assert len(dataset.train) == 12 and len(dataset.test) == 3
    assert dataset.augmentation == "crop_flip"
    for split in (dataset.train, dataset.test):
        np.testing.assert_array_equal(split.images[:, 0, 0].argmax(-1), split.labels)
    assert len(set(dataset.train.labels[:6])) > 1
    again = data.load(f"folder:{tmp_path}")
    np.testing.assert_array_equal(again.test.images, dataset.test.images)


@pytest.mark.parametrize("name", ["test", "val", "valid", "validation"])
def test_folder_with_training_and_test_folders(name, tmp_path):
    write_images(tmp_path / "train", ["a", "b"], count=4)
    write_images(tmp_path / name, ["a", "b"], count=2)
    dataset = data.load(f"folder:{tmp_path}")
    assert dataset.class_names == ("a", "b")
    assert (len(dataset.train), len(dataset.test)) == (8, 2 * 2)


def test_training_and_test_folders_must_have_the_same_classes(tmp_path):
    write_images(tmp_path / "train", ["a", "b"])
    write_images(tmp_path / "test", ["a", "c"])
    with pytest.raises(UserError, match=r"different classes: a, b and a, c"):
        data.load(f"folder:{tmp_path}")


def test_training_and_test_images_must_have_the_same_size(tmp_path):
    write_images(tmp_path / "train", ["a", "b"])
    write_images(tmp_path / "test", ["a", "b"], size=(4, 4))
    with pytest.raises(UserError, match="differ in size; set --image_size"):
        data.load(f"folder:{tmp_path}")
    assert data.load(f"folder:{tmp_path}", image_size=8).shape == (8, 8, 3)


def test_images_of_different_sizes_must_be_resized(tmp_path):
    write_images(tmp_path, ["a", "b"])
    PIL.Image.new("L", (9, 9), 50).save(tmp_path / "b" / "other.png")
    with pytest.raises(UserError, match=r"other.png is 9x9; set --image_size"):
        data.load(f"folder:{tmp_path}")
    assert data.load(f"folder:{tmp_path}", image_size=16).shape == (16, 16, 3)


def test_missing_folder_is_reported(tmp_path):
    with pytest.raises(UserError, match="missing is not a folder"):
        data.load(f"folder:{tmp_path / 'missing'}")


def test_single_class_is_rejected(tmp_path):
    write_images(tmp_path, ["only"])
    with pytest.raises(
        UserError, match=r"holds 1 class folder\(s\) \(only\); .* at least 2"
    ):
        data.load(f"folder:{tmp_path}")


def test_single_image_of_a_class_is_rejected(tmp_path):
    write_images(tmp_path, ["many"])
    write_images(tmp_path, ["single"], count=1)
    with pytest.raises(UserError, match=r"single holds 1 image\(s\)"):
        data.load(f"folder:{tmp_path}")


def test_unreadable_images_are_named(tmp_path):
    write_images(tmp_path, ["a", "b"])
    path = tmp_path / "b" / "3.png"
    content = path.read_bytes()
    for damaged in (b"not an image", content[: len(content) // 2], b""):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"b/3.png cannot be read as an image"):
            data.load(f"folder:{tmp_path}")
    path.write_bytes(content)
    (tmp_path / "a" / "9.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(UserError, match=r"a/9.png cannot be read"):
        data.load(f"folder:{tmp_path}")
