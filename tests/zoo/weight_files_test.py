import h5py
import keras
import numpy as np
import pytest

import zoo
from inres_tf.layers import damping_rates

SMALL = {"input_shape": (8, 8, 1)}
LOGITS = {**SMALL, "classifier_activation": None}


def save(model, path):
    model.save(path) if path.suffix == ".keras" else model.save_weights(path)


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_weights_from_a_file(suffix, tmp_path, rng):
    model = zoo.InResNet8(**SMALL, classes=4)
    path = tmp_path / f"model{suffix}"
    save(model, path)
    pixels = rng.integers(0, 256, (2, 8, 8, 1)).astype(np.uint8)
    restored = zoo.InResNet8(**SMALL, classes=4, weights=path)
    np.testing.assert_array_equal(restored(pixels), model(pixels))

    features = zoo.InResNet8(
        **SMALL, weights=str(path), include_top=False, pooling="avg"
    )
    expected = keras.Model(model.input, model.get_layer("avg_pool").output)
    np.testing.assert_array_equal(features(pixels), expected(pixels))

    with pytest.raises(ValueError, match="are for classes=4.*Received: classes=10"):
        zoo.InResNet8(**SMALL, weights=path)
    with pytest.raises(ValueError, match="do not fit in_resnet20"):
        zoo.InResNet20(**SMALL, classes=4, weights=path)
    damaged = tmp_path / f"damaged{suffix}"
    damaged.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="not a readable weights file"):
        zoo.InResNet8(**SMALL, classes=4, weights=damaged)


def test_weights_of_another_damping_are_rejected(tmp_path):
    """The variables have the same shapes, but k means a different λ."""
    path = tmp_path / "model.keras"
    zoo.InResNet20(**SMALL).save(path)
    with pytest.raises(ValueError, match="with damping in, not lambda_in"):
        zoo.LambdaInResNet20(**SMALL, weights=path)
    with pytest.raises(ValueError, match="Received: classifier_activation='relu'"):
        zoo.InResNet20(**SMALL, weights=path, classifier_activation="relu")


def test_weights_of_other_dynamics_are_rejected(tmp_path):
    """The variables have the same shapes, but another limit means another function."""
    path, size = tmp_path / "model.keras", {"input_shape": (8, 8, 3)}
    zoo.get_model("lip_node_tiny", lipschitz=3.0, **size).save(path)
    zoo.get_model("lip_node_tiny", lipschitz=3.0, weights=path, **size)
    with pytest.raises(ValueError, match=r"and lipschitz=3.0, not .* lipschitz=\w"):
        zoo.get_model("lip_node_tiny", weights=path, **size)
    zoo.get_model("lip_node_tiny", lipschitz=3, weights=path, **size)
    zoo.get_model("damped_node_tiny", damping=1, **size).save(path)
    zoo.get_model("damped_node_tiny", damping=1.0, weights=path, **size)
    zoo.get_model("damped_node_tiny", damping=0.5, **size).save(path)
    with pytest.raises(ValueError, match="with damping 0.5, not 0.25"):
        zoo.get_model("damped_node_tiny", damping=0.25, weights=path, **size)


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_weights_of_the_undamped_network(suffix, tmp_path, rng):
    source = zoo.ResNet20(**LOGITS)
    path = tmp_path / f"resnet20{suffix}"
    save(source, path)
    pixels = rng.integers(0, 256, (2, 8, 8, 1)).astype(np.uint8)
    model = zoo.LambdaInResNet20(weights=path, **LOGITS)
    np.testing.assert_allclose(model(pixels), source(pixels), rtol=1e-5, atol=1e-6)
    assert list(damping_rates(model).values()) == [0.0] * 6
    # Random layers have no weights.
    model = zoo.InResNet20(weights=path, stochastic_depth=0.3, noise=0.01, **LOGITS)
    np.testing.assert_allclose(model(pixels), source(pixels), rtol=1e-5, atol=1e-6)
    noisy = tmp_path / f"noisy{suffix}"
    model.get_layer("stage1_block2_merge").k.assign(0.4)
    save(model, noisy)
    for options in ({}, {"stochastic_depth": 0.3, "noise": 0.01}):
        restored = zoo.InResNet20(weights=noisy, **LOGITS, **options)
        np.testing.assert_array_equal(restored(pixels), model(pixels))
    if suffix == ".keras":
        zoo.PlainNet20(**LOGITS).save(path)
        with pytest.raises(ValueError, match="with damping plain, not none"):
            zoo.InResNet20(weights=path, **LOGITS)


def test_weights_of_another_network_are_rejected(tmp_path):
    path = tmp_path / "features.weights.h5"
    zoo.InResNet20(**LOGITS, include_top=False).save_weights(path)
    with pytest.raises(ValueError, match="have no classifier: pass include_top=False"):
        zoo.InResNet20(**LOGITS, weights=path)
    with pytest.raises(
        ValueError,
        match="do not fit in_resnet32: .* 272,9.. numbers in .* needs 468,2..",
    ):
        zoo.InResNet32(**LOGITS, include_top=False, weights=path)


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_damaged_files(suffix, tmp_path):
    """Either the error names the file, or the damage does not matter."""
    path = tmp_path / f"model{suffix}"
    model = zoo.InResNet8(**LOGITS)
    save(model, path)
    whole = path.read_bytes()
    rejected = 0
    for start in range(0, len(whole), len(whole) // 25):
        damaged = whole[:start] + bytes(200) + whole[start + 200 :]
        path.write_bytes(damaged)
        try:
            zoo.InResNet8(**LOGITS, weights=path)
        except ValueError as error:
            rejected += 1
            assert "model" + suffix in str(error)
    assert rejected > 0


def test_weights_with_an_input_tensor(tmp_path, rng):
    source = zoo.InResNet8(input_shape=(8, 8, 3), classifier_activation=None)
    source.save(tmp_path / "source.keras")
    inputs = keras.Input((8, 8, 1))
    colours = keras.layers.Conv2D(3, 1, name="to_colours")
    model = zoo.InResNet8(
        input_tensor=colours(inputs),
        weights=tmp_path / "source.keras",
        classifier_activation=None,
    )
    grey = rng.uniform(0, 255, (2, 8, 8, 1)).astype(np.float32)
    np.testing.assert_allclose(model(grey), source(colours(grey)), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore")  # Keras advises against the format
def test_hdf5_files_of_other_names_and_formats(tmp_path):
    model = zoo.InResNet8(**SMALL)
    model.save(tmp_path / "model.h5")
    model.save_weights(tmp_path / "new.weights.h5")
    (tmp_path / "new.weights.h5").rename(tmp_path / "new.h5")
    with h5py.File(tmp_path / "legacy.hdf5", "w") as file:
        file.attrs["layer_names"] = [b"dense"]
    for name, message in (
        ("model.h5", "model.h5 holds a whole model in Keras' older format: load it"),
        ("new.h5", r"new.h5 must be named new\.weights\.h5"),
        ("legacy.hdf5", "holds weights in Keras' older format: load them into"),
    ):
        with pytest.raises(ValueError, match=message):
            zoo.InResNet8(**SMALL, weights=tmp_path / name)
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(ValueError, match="`weights` must be None, the name of shipped"):
        zoo.InResNet8(**SMALL, weights=tmp_path / "text.h5")
