"""Every network of the zoo."""

import keras
import numpy as np
import PIL.Image
import pytest

import zoo
from inres_tf import data
from inres_tf.layers import damping_rates
from zoo import presets, registry

# These cover every family for small images and every damping; the others are long.
FAST_NAMES = {
    *("resnet8", "in_resnet20", "lambda_in_resnet20", "en_resnet20", "plain20"),
    *("resnext11_4x16d", "in_resnext11_4x16d", "in_airnet", "exponential_airnet"),
    *("cpl_tiny", "damped_cpl_tiny", "lip_node_tiny", "damped_node_tiny", "node_tiny"),
}


def is_continuous(family):
    return isinstance(family, presets.ContinuousFamily)


NAMES = [
    pytest.param(name, marks=() if name in FAST_NAMES else pytest.mark.long)
    for name in zoo.list_models()
]


@pytest.fixture(autouse=True)
def seed():
    """Deep networks without shortcuts lose too much in bfloat16 for rare weights."""
    keras.utils.set_random_seed(0)


def pixels_for(style, rng, count=3):
    side = 8 if style is not presets.IMAGENET else 32
    return rng.integers(0, 256, (count, side, side, 3)).astype(np.uint8)


@pytest.mark.parametrize("name", NAMES)
def test_network(name, rng, tmp_path):
    family, size, _ = registry.MODELS[name]
    style = family.networks[size].style
    pixels = pixels_for(style, rng)
    model = zoo.get_model(name, input_shape=pixels.shape[1:], classes=4)
    facts = zoo.describe(name, input_shape=pixels.shape[1:], classes=4)
    assert model.name == name and model.output_shape == (None, 4)
    assert model.count_params() == facts["parameters"]
    trainable = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert trainable == facts["trainable_parameters"]
    for names in ([x.name for x in model.layers], [v.path for v in model.weights]):
        assert len(set(names)) == len(names)

    outputs = np.asarray(model(pixels))
    np.testing.assert_allclose(outputs.sum(-1), 1, rtol=1e-5)
    # The batch size is dynamic, and images do not affect each other.
    np.testing.assert_allclose(model(pixels[:1]), outputs[:1], rtol=1e-3, atol=1e-5)

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(pixels), outputs, rtol=1e-5, atol=1e-7)
    assert [x.name for x in loaded.layers] == [x.name for x in model.layers]
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_allclose(clone(pixels), outputs, rtol=1e-5, atol=1e-7)
    if damping_rates(model):
        assert damping_rates(loaded) == damping_rates(model)
        assert len(damping_rates(model)) == facts["damped_blocks"]

    pooling = "max" if "airnet" in name else "avg"
    features = zoo.get_model(
        name,
        include_top=False,
        pooling=pooling,
        input_shape=pixels.shape[1:] if is_continuous(family) else None,
        weights=tmp_path / "model.keras",
    )
    if is_continuous(family):
        maps = model.get_layer("flatten").input
        pooled = keras.Model(model.inputs[0], keras.ops.mean(maps, (1, 2)))
    else:
        other_size = rng.integers(0, 256, (2, 45, 38, 3)).astype(np.uint8)
        assert np.isfinite(features(other_size)).all()
        pooled = keras.Model(model.inputs[0], model.get_layer(f"{pooling}_pool").output)
    np.testing.assert_allclose(features(pixels), pooled(pixels), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_mixed_precision(name, rng):
    family, size, _ = registry.MODELS[name]
    pixels = pixels_for(family.networks[size].style, rng)
    options = {"input_shape": pixels.shape[1:], "classifier_activation": None}
    full = zoo.get_model(name, **options)
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        mixed = zoo.get_model(name, **options)
    finally:
        keras.config.set_dtype_policy("float32")
    assert {layer.compute_dtype for layer in mixed.layers} == {"float32", "bfloat16"}
    first = "stage1_channels" if is_continuous(family) else "stem_conv"
    assert mixed.get_layer(first).compute_dtype == "bfloat16"
    assert mixed.get_layer("predictions").compute_dtype == "float32"
    mixed.set_weights(full.get_weights())
    expected, logits = np.asarray(full(pixels)), np.asarray(mixed(pixels))
    assert logits.dtype == np.float32
    assert np.abs(logits - expected).max() < 0.1 * np.abs(expected).max()


def test_fine_tuning(trained, digits, tmp_path):
    """Features learned on ten digits help to distinguish two from few images."""
    for digit, name in ((3, "three"), (8, "eight")):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for i in np.flatnonzero(digits.train.labels == digit)[:50]:
            image = digits.train.images[i, ..., 0]
            PIL.Image.fromarray(image).save(folder / f"{i}.png")
    photos = data.load(f"folder:{tmp_path / 'photos'}")
    assert photos.class_names == ("eight", "three")
    grey = photos.train.images.mean(-1, keepdims=True)
    test = digits.test.take(np.isin(digits.test.labels, (3, 8)))

    trained.save(tmp_path / "trained.keras")
    accuracies = []
    for weights in (tmp_path / "trained.keras", None):
        keras.utils.set_random_seed(0)
        features = zoo.InResNet8(
            weights=weights, include_top=False, pooling="avg", input_shape=(8, 8, 1)
        )
        features.trainable = False
        scores = keras.layers.Dense(2, "softmax")(features.output)
        model = keras.Model(features.input, scores)
        model.compile(
            keras.optimizers.Adam(0.05),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
        model.fit(grey, photos.train.labels, epochs=15, verbose=0)
        _, accuracy = model.evaluate(test.images, test.labels == 3, verbose=0)
        accuracies.append(accuracy)
    assert accuracies[0] > 0.9 and accuracies[0] > accuracies[1]
