import numpy as np
import pytest

from inres_tf.corruptions import EXTRA, SEVERITIES, STANDARD, cifar10_c
from inres_tf.errors import UserError

NUMBER = 4
NAMES = [*STANDARD, *EXTRA]


@pytest.fixture
def folder(tmp_path):
    """CIFAR-10-C of four images; pixels encode the corruption and the image."""
    for position, name in enumerate(NAMES):
        images = np.empty((5 * NUMBER, 6, 7, 3), np.uint8)
        images[...] = 10 * position
        images += np.arange(5 * NUMBER, dtype=np.uint8)[:, None, None, None]
        np.save(tmp_path / f"{name}.npy", images)
    np.save(tmp_path / "labels.npy", np.tile(np.arange(NUMBER, dtype=np.uint8), 5))
    return tmp_path


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", ["gaussian_noise", "frost", "saturate"])
def test_a_folder_holds_the_images_of_each_severity(folder, name, severity):
    data = cifar10_c.load(f"folder:{folder}", name, severity)
    assert data.images.dtype == np.uint8 and data.images.shape == (NUMBER, 6, 7, 3)
    first = 10 * NAMES.index(name) + NUMBER * (severity - 1)
    for i, image in enumerate(data.images):
        assert (image == first + i).all()
    assert data.labels.dtype == np.int64 and data.labels.tolist() == [0, 1, 2, 3]
    assert isinstance(data.images, np.memmap)


def test_labels_may_be_stored_once_or_by_severity(folder):
    once = np.array([3, 1, 2, 0])
    np.save(folder / "labels.npy", once)
    for severity in SEVERITIES:
        data = cifar10_c.load(f"folder:{folder}", "fog", severity)
        np.testing.assert_array_equal(data.labels, once)
    np.save(folder / "labels.npy", np.arange(5 * NUMBER))
    data = cifar10_c.load(f"folder:{folder}", "fog", 3)
    assert data.labels.tolist() == [8, 9, 10, 11]


@pytest.mark.parametrize(
    "name, array, message",
    [
        ("fog", np.zeros((20, 6, 7, 3)), "fog.npy holds float64.*uint8 pixels"),
        ("fog", np.zeros((20, 6, 7), np.uint8), r"shape \(20, 6, 7\).*\(5 N, height"),
        ("fog", np.zeros((20, 6, 7, 2), np.uint8), r"\(20, 6, 7, 2\).* 1 or 3\)"),
        ("fog", np.zeros((19, 6, 7, 3), np.uint8), "holds 19 images.*multiple of 5"),
        ("fog", np.zeros((25, 6, 7, 3), np.uint8), r"\(20,\); for fog.npy .* \(25,\)"),
        ("fog", np.array([{}]), "fog.npy cannot be read as a .npy file"),
        ("labels", np.full(20, 0.5), "labels.npy must be .* a whole number"),
        ("labels", np.zeros(7, int), r"\(7,\); for fog.npy it must be \(20,\), or"),
        ("labels", np.zeros((20, 3), int), r"shape \(20, 3\) must be one-hot"),
        ("labels", np.full(20, -1), "labels.npy must be classes from 0. Received -1"),
    ],
)
def test_files_of_another_type_or_shape_are_refused(folder, name, array, message):
    np.save(folder / f"{name}.npy", array)
    with pytest.raises(UserError, match=message) as caught:
        cifar10_c.load(f"folder:{folder}", "fog", 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00"])
def test_damaged_files_are_refused(folder, content):
    (folder / "fog.npy").write_bytes(content)
    with pytest.raises(UserError, match=r"fog\.npy cannot be read") as caught:
        cifar10_c.load(f"folder:{folder}", "fog", 1)
    assert "\n" not in str(caught.value)
    np.save(folder / "snow.npy", np.zeros((20, 6, 7, 3), np.uint8))
    whole = (folder / "snow.npy").read_bytes()
    (folder / "snow.npy").write_bytes(whole[:-100])
    with pytest.raises(UserError, match=r"snow\.npy cannot be read"):
        cifar10_c.load(f"folder:{folder}", "snow", 1)


def test_missing_files_are_named(folder):
    (folder / "fog.npy").unlink()
    with pytest.raises(UserError, match=r"no fog.npy \(corruptions found there: gaus"):
        cifar10_c.load(f"folder:{folder}", "fog", 1)
    (folder / "labels.npy").unlink()
    with pytest.raises(UserError, match=r"no labels.npy.*next to snow.npy"):
        cifar10_c.load(f"folder:{folder}", "snow", 1)
    with pytest.raises(UserError, match="none is not a folder"):
        cifar10_c.load(f"folder:{folder / 'none'}", "snow", 1)


def test_unknown_names_severities_and_sources_are_refused():
    with pytest.raises(UserError, match=r"'glas_blur'; did you mean 'glass_blur'"):
        cifar10_c.load("folder:x", "glas_blur", 1)
    for severity in (0, 6, "1"):
        with pytest.raises(UserError, match="from 1 to 5; got"):
            cifar10_c.load("folder:x", "fog", severity)
    for source in ("cifar100_c", "folder:", "folder"):
        with pytest.raises(UserError, match="'cifar10_corrupted' or 'folder:PATH'"):
            cifar10_c.load(source, "fog", 1)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Three configurations of cifar10_corrupted, prepared from tiny files."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.image_classification import cifar10_corrupted

    source = tmp_path_factory.mktemp("archive") / "CIFAR-10-C"
    source.mkdir()
    for value, name in enumerate(("glass_blur", "elastic_transform", "brightness")):
        images = np.full((15, 32, 32, 3), 50 * value, np.uint8)
        images += np.arange(15, dtype=np.uint8)[:, None, None, None]
        np.save(source / f"{name}.npy", images)
    np.save(source / "labels.npy", np.tile(np.arange(3, dtype=np.uint8), 5))
    root = tmp_path_factory.mktemp("tfds")
    for config in ("frosted_glass_blur_2", "elastic_5", "brightness_1"):
        builder = cifar10_corrupted.Cifar10Corrupted(config=config, data_dir=root)
        builder._split_generators = lambda _, b=builder: [
            tfds.core.SplitGenerator(tfds.Split.TEST, {"data_dir": str(source)})
        ]
        builder.download_and_prepare()
    return root


@pytest.mark.parametrize(
    "name, severity, first",
    [("glass_blur", 2, 3), ("elastic_transform", 5, 62), ("brightness", 1, 100)],
)
def test_tensorflow_datasets_are_loaded_by_our_names(prepared, name, severity, first):
    data = cifar10_c.load("cifar10_corrupted", name, severity, prepared)
    order = np.argsort(data.labels)
    assert data.labels[order].tolist() == [0, 1, 2]
    assert data.images.shape == (3, 32, 32, 3)
    for i, image in enumerate(data.images[order]):
        assert (image == first + i).all()


def test_every_name_is_a_configuration_of_tensorflow_datasets():
    from tensorflow_datasets.image_classification import cifar10_corrupted

    configs = {c.name for c in cifar10_corrupted.Cifar10Corrupted.BUILDER_CONFIGS}
    renamed = [cifar10_c._TFDS_NAMES.get(name, name) for name in NAMES]
    assert configs == {f"{name}_{s}" for name in renamed for s in SEVERITIES}


def test_a_set_that_is_not_prepared_is_an_error(prepared):
    """TensorFlow Datasets would load its default configuration, brightness_1."""
    with pytest.raises(
        UserError, match="'cifar10_corrupted/fog_1' is not.*download=True"
    ):
        cifar10_c.load("cifar10_corrupted", "fog", 1, prepared)
    with pytest.raises(UserError, match=r"brightness_2' .*there: cifar10_corr"):
        cifar10_c.load("cifar10_corrupted", "brightness", 2, prepared)
