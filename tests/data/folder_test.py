import os
import pathlib
import shutil
import unicodedata

import numpy as np
import PIL.Image
import pytest

from inres_tf import data
from inres_tf.data import folder as folders_of_images
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
    assert len(dataset.train) + len(dataset.test) == 15
    assert set(dataset.test.labels) == set(dataset.train.labels) == {0, 1, 2}
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
    with pytest.raises(
        UserError, match="differ in size; set `image_size`, such as `image_size=64`"
    ):
        data.load(f"folder:{tmp_path}")
    assert data.load(f"folder:{tmp_path}", image_size=8).shape == (8, 8, 3)


def test_images_of_different_sizes_must_be_resized(tmp_path):
    write_images(tmp_path, ["a", "b"])
    PIL.Image.new("L", (9, 7), 50).save(tmp_path / "b" / "other.png")
    sizes = r"a/0.png is 6x5 pixels and .*other.png is 9x7; set `image_size`"
    with pytest.raises(UserError, match=sizes):
        data.load(f"folder:{tmp_path}")
    assert data.load(f"folder:{tmp_path}", image_size=16).shape == (16, 16, 3)


def test_missing_folder_is_reported(tmp_path):
    with pytest.raises(UserError, match="missing is not a folder"):
        data.load(f"folder:{tmp_path / 'missing'}")


def test_folders_that_cannot_be_read_are_reported(tmp_path, monkeypatch):
    write_images(tmp_path, ["a", "b"])
    listed = pathlib.Path.iterdir

    def iterdir(folder):
        if folder.name == "b":
            raise PermissionError("Permission denied")
        return listed(folder)

    # Root may read any folder, whatever its permissions.
    monkeypatch.setattr(pathlib.Path, "iterdir", iterdir)
    with pytest.raises(UserError, match=r"b cannot be read: Permission denied"):
        data.load(f"folder:{tmp_path}")


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


def test_unreadable_images_are_named(tmp_path, monkeypatch):
    write_images(tmp_path, ["a", "b"])
    path = tmp_path / "b" / "3.png"
    content = path.read_bytes()
    for damaged in (b"not an image", content[: len(content) // 2], b""):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"b/3.png cannot be read as an image"):
            data.load(f"folder:{tmp_path}")
    for number in range(2, 4):
        (tmp_path / "a" / f"{number}.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"a/2.png cannot .*; .*a/3.png .*; .*b/3.png"):
        data.load(f"folder:{tmp_path}")
    (tmp_path / "a" / "0.png").write_bytes(b"")
    monkeypatch.setattr(folders_of_images, "_LISTED", 1)
    with pytest.raises(UserError, match=r"a/0.png cannot be read .*; and 3 more$"):
        data.load(f"folder:{tmp_path}")
    for name in ("a", "b"):
        shutil.rmtree(tmp_path / name)
    write_images(tmp_path, ["a", "b"])
    (tmp_path / "a" / "9.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(UserError, match=r"a/9.png cannot be read"):
        data.load(f"folder:{tmp_path}")


def write_noise(root, classes, count, seed=0):
    """Writes different random images, numbered within each class."""
    rng = np.random.default_rng(seed)
    for name in classes:
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (4, 4, 3), np.uint8)
            PIL.Image.fromarray(pixels).save(root / name / f"{seed}-{i}.png")


def contents(images):
    return {pixels.tobytes() for pixels in images.images}


def test_images_keep_their_side_when_others_come_or_are_renamed(tmp_path):
    write_noise(tmp_path, "ab", 60)
    before = data.load(f"folder:{tmp_path}")
    for name in "ab":
        assert 3 <= np.sum(before.test.labels == "ab".index(name)) <= 22
    write_noise(tmp_path, "abc", 20, seed=1)
    (tmp_path / "a" / "0-0.png").rename(tmp_path / "a" / "z.png")
    after = data.load(f"folder:{tmp_path}")
    assert contents(before.test) <= contents(after.test)
    assert contents(before.train) <= contents(after.train)
    assert len(after.train) + len(after.test) == 180


def test_the_part_held_out_for_validation_keeps_its_images_too(tmp_path):
    write_noise(tmp_path, "ab", 60)
    _, before = data.hold_out(data.load(f"folder:{tmp_path}").train, 0.2)
    assert 6 <= len(before) <= 40
    write_noise(tmp_path, "ab", 20, seed=1)
    training, after = data.hold_out(data.load(f"folder:{tmp_path}").train, 0.2)
    assert contents(before) <= contents(after)
    assert not contents(training) & contents(after)


def test_a_small_class_has_an_image_on_each_side(tmp_path):
    for i in range(5):
        write_noise(tmp_path / str(i), "ab", 2, seed=i)
        dataset = data.load(f"folder:{tmp_path / str(i)}")
        for split in (dataset.train, dataset.test):
            assert sorted(split.labels) == [0, 1]


def test_copies_of_a_file_are_on_one_side(tmp_path, capsys):
    write_noise(tmp_path, "ab", 30)
    for path in sorted((tmp_path / "a").iterdir()):
        shutil.copy(path, tmp_path / "a" / f"copy of {path.name}")
    dataset = data.load(f"folder:{tmp_path}")
    assert not contents(dataset.train) & contents(dataset.test)
    assert "copies" not in capsys.readouterr().err


def test_copies_on_both_sides_are_counted_and_named(tmp_path, capsys):
    write_noise(tmp_path / "train", "ab", 5)
    write_noise(tmp_path / "test", "ab", 5, seed=1)
    shutil.copy(tmp_path / "train/a/0-0.png", tmp_path / "test/b/same.png")
    with PIL.Image.open(tmp_path / "train/b/0-1.png") as image:
        image.save(tmp_path / "test/b/stored.bmp")  # as another file
    data.load(f"folder:{tmp_path}", image_size=8)
    assert (
        "copies of training images among the 12 test images: 2 (test/b/same.png = "
        "train/a/0-0.png, test/b/stored.bmp = train/b/0-1.png)"
    ) in capsys.readouterr().err


def test_copies_in_two_classes_are_counted_and_named(tmp_path, capsys):
    write_noise(tmp_path, "ab", 5)
    (tmp_path / "c").symlink_to(tmp_path / "b")
    shutil.copy(tmp_path / "a" / "0-0.png", tmp_path / "a" / "again.png")
    data.load(f"folder:{tmp_path}")
    said = capsys.readouterr().err
    assert "copies of images of another class: 5 (c/0-" in said


def test_a_class_may_not_be_a_link_to_what_holds_it(tmp_path):
    write_noise(tmp_path, "ab", 5)
    (tmp_path / "all").symlink_to(tmp_path)
    with pytest.raises(UserError, match=r"all holds 0 image\(s\)"):
        data.load(f"folder:{tmp_path}")


def test_hidden_files_and_folders_are_left_out_at_any_depth(tmp_path, capsys):
    write_noise(tmp_path, ["a", "b/deep"], 4)
    for hidden in (".ipynb_checkpoints", "deep/.cache", "__MACOSX", "@eaDir"):
        shutil.copytree(tmp_path / "a", tmp_path / "b" / hidden)
    shutil.copy(tmp_path / "a" / "0-0.png", tmp_path / "b" / "deep" / "._0-0.png")
    shutil.copytree(tmp_path / "a", tmp_path / ".trash")
    dataset = data.load(f"folder:{tmp_path}")
    assert dataset.class_names == ("a", "b")
    assert len(dataset.train) + len(dataset.test) == 8
    assert not capsys.readouterr().err


def test_files_that_are_no_images_are_counted(tmp_path, capsys):
    write_noise(tmp_path, "ab", 4)
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"junk")
    (tmp_path / "b" / "notes.txt").write_text("text")
    (tmp_path / "README.md").write_text("text")
    shutil.copy(tmp_path / "a" / "0-0.png", tmp_path / "cover.png")
    dataset = data.load(f"folder:{tmp_path}")
    assert len(dataset.train) + len(dataset.test) == 8
    said = capsys.readouterr().err
    assert "left out, not images: 3 (README.md, a/Thumbs.db, b/notes.txt)" in said
    assert "left out, outside the folders of classes: 1 (cover.png)" in said


def test_transparent_images_are_counted(tmp_path, capsys):
    write_noise(tmp_path, "ab", 4)
    PIL.Image.new("RGBA", (4, 4), (9, 9, 9, 0)).save(tmp_path / "b" / "logo.png")
    data.load(f"folder:{tmp_path}")
    said = capsys.readouterr().err
    assert "transparent images, shown on white: 1 (b/logo.png)" in said


def test_links_to_folders_are_followed_once(tmp_path, capsys):
    write_noise(tmp_path / "set", ["a", "b/deep"], 4)
    write_noise(tmp_path / "disk", ["c", "more/yet"], 3, seed=1)
    links = {
        "set/c": "disk/c",  # a class
        "set/b/deep/more": "disk/more",
        "set/b/again": "disk/more",
        "set/b/deep/up": "set/b",
        "set/c/root": "set",
        "set/c/all": ".",
    }
    for link, target in links.items():
        (tmp_path / link).symlink_to(tmp_path / target)
    dataset = data.load(f"folder:{tmp_path / 'set'}")
    assert dataset.class_names == ("a", "b", "c")
    labels = np.concatenate([dataset.train.labels, dataset.test.labels])
    np.testing.assert_array_equal(np.bincount(labels), [4, 4 + 3, 3])
    assert (
        "links to folders that are already read or contain the link: 4 ("
        in capsys.readouterr().err
    )


def test_class_names_are_compared_in_one_unicode_form(tmp_path):
    names = ("caf\u00e9", "th\u00e9")
    for split, form in (("train", "NFC"), ("test", "NFD")):
        folders = [unicodedata.normalize(form, name) for name in names]
        write_images(tmp_path / split, folders)
    assert data.load(f"folder:{tmp_path}").class_names == names
    (tmp_path / "test" / names[0]).mkdir()
    with pytest.raises(UserError, match=r"'cafe\\u0301'.* equal in Unicode"):
        data.load(f"folder:{tmp_path}")


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Train", "Test"),
        ("TRAINING", "testing"),
        ("training", "validation"),
        ("train", "dev"),
        ("train", "eval"),
        ("training_set", "test_set"),
        ("trainset", "testset"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("train images", "val images"),
        ("train2017", "val2017"),
    ],
)
def test_splits_have_many_names(train, test, tmp_path):
    write_images(tmp_path / train, ["cat", "dog"], count=4)
    write_images(tmp_path / test, ["cat", "dog"], count=2)
    dataset = data.load(f"folder:{tmp_path}")
    assert dataset.class_names == ("cat", "dog")
    assert (len(dataset.train), len(dataset.test)) == (8, 4)


def test_other_folders_beside_the_splits_are_named(tmp_path, capsys):
    for split in ("train", "val", "test", "extra"):
        write_images(tmp_path / split, ["a", "b"], count=3 + (split == "test"))
    assert len(data.load(f"folder:{tmp_path}").test) == 8
    said = capsys.readouterr().err
    assert "outside the folders of classes: 2 (extra, val)" in said


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["first/cat", "first/dog", "second/cat", "second/dog"], "names cat, dog"),
        (["cat/train", "cat/test", "dog/train", "dog/test"], "names test, train"),
        (["train/cat", "train/dog", "unlabelled"], "no folder for testing next to"),
        (["Train/cat", "train/cat", "test/cat"], "several folders of one split: Train"),
    ],
)
def test_splits_must_not_become_classes(folders, message, tmp_path):
    write_images(tmp_path, folders[:3])
    for folder in folders[3:]:
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(UserError, match=message):
        data.load(f"folder:{tmp_path}")


def test_classes_may_hold_a_folder_of_one_name_and_be_called_like_a_split(tmp_path):
    write_images(tmp_path, ["bus/images", "train/images"])
    assert data.load(f"folder:{tmp_path}").class_names == ("bus", "train")


def test_things_that_are_no_files_are_left_out(tmp_path, capsys):
    write_images(tmp_path, ["a", "b"])
    os.mkfifo(tmp_path / "a" / "pipe")
    assert len(data.load(f"folder:{tmp_path}").class_names) == 2
    assert "not images: 1 (a/pipe)" in capsys.readouterr().err


def test_the_first_images_are_of_all_classes(tmp_path):
    """`--num_examples` takes the first images."""
    write_images(tmp_path, ["cat", "dog", "eel"], count=30)
    dataset = data.load(f"folder:{tmp_path}")
    for split in (dataset.train, dataset.test):
        assert set(split.labels[:8]) == {0, 1, 2}


def test_similar_folders_are_suggested(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(UserError, match="photo is not a folder; did you mean 'photos'"):
        data.load(f"folder:{tmp_path}/photo")
    with pytest.raises(UserError, match="y is not a folder; folder:PATH needs"):
        data.load(f"folder:{tmp_path}/x/y")
