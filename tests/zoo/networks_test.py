"""Every network of the zoo: what each must do, and what single families do."""

import itertools

import keras
import numpy as np
import PIL.Image
import pytest

import zoo
from inres_tf import data
from inres_tf.layers import UniformNoise, damping_rates
from zoo import constructors, presets, registry

# What is quick covers every family and damping; the other networks are long.
QUICK = {"20", "11_4x16d"}
QUICK_TOO = {"in_resnet8", "in_resnext29_32x4d", "in_resnet50"}


def is_quick(name):
    _, size, _ = registry.MODELS[name]
    return size in QUICK or name in QUICK_TOO


NAMES = [
    pytest.param(name, marks=() if is_quick(name) else pytest.mark.long)
    for name in zoo.list_models()
]


@pytest.fixture(autouse=True)
def same_weights_every_time():
    """A rare draw of a hundred layers without shortcuts rounds badly in bfloat16."""
    keras.utils.set_random_seed(0)


def pixels_for(style, rng, count=3):
    side = 8 if style is not presets.IMAGENET else 32
    return rng.integers(0, 256, (count, side, side, 3)).astype(np.uint8)


@pytest.mark.parametrize("name", NAMES)
def test_every_network(name, rng, tmp_path):
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
    # The batch is dynamic, and images do not depend on each other.
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

    features = zoo.get_model(
        name,
        include_top=False,
        pooling="avg",
        input_shape=None,
        weights=tmp_path / "model.keras",
    )
    other = rng.integers(0, 256, (2, 45, 38, 3)).astype(np.uint8)
    assert np.isfinite(features(other)).all()
    whole = keras.Model(model.inputs[0], model.get_layer("avg_pool").output)
    np.testing.assert_allclose(features(pixels), whole(pixels), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_every_network_in_mixed_precision(name, rng):
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
    assert mixed.get_layer("stem_conv").compute_dtype == "bfloat16"
    assert mixed.get_layer("predictions").compute_dtype == "float32"
    mixed.set_weights(full.get_weights())
    expected, found = np.asarray(full(pixels)), np.asarray(mixed(pixels))
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()


PUBLISHED = sorted(
    {
        constructors.BY_MODEL[name].__name__: name
        for name in zoo.list_models()
        if zoo.describe(name)["published_parameters"]
    }.values()
)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_those_published(name):
    """To half of the last digit published, and 0.5 % for what pre-activation adds."""
    facts = zoo.describe(name)
    published = facts["published_parameters"]
    half = 0.05e6 if published >= 1e6 else 0.005e6
    found = facts["trainable_parameters"]
    assert found == pytest.approx(published, abs=half + 0.005 * published)
    assert facts["source"]


def test_description_of_resnext_29():
    facts = zoo.describe("in_resnext29_8x64d")
    assert facts["published_parameters"] == 34.4e6
    assert facts["damped_blocks"] == 6 and facts["blocks"] == 9
    assert facts["parameters"] == zoo.describe("resnext29_8x64d")["parameters"] + 6
    assert zoo.describe("resnext29_8x64d")["damped_blocks"] == 0
    assert zoo.describe("resnet50v2")["weights"] == ["imagenet"]
    with pytest.raises(ValueError, match="Did you mean .*in_resnext29_8x64d"):
        zoo.describe("inresnext29_8x64d")


@pytest.mark.parametrize(
    "name", ["in_resnet20", "resnet164", "resnext11_4x16d", "plain50"]
)
@pytest.mark.parametrize("side", [32, 45])
def test_operations_are_those_tensorflow_counts(name, side):
    """Twice the multiply-adds of its own profiler, convolutions and matrices."""
    import tensorflow as tf

    model = zoo.get_model(name, input_shape=(side, side, 3))
    function = tf.function(lambda x: model(x, training=False)).get_concrete_function(
        tf.TensorSpec((1, side, side, 3))
    )
    expected = 0
    for operation in function.graph.get_operations():
        if operation.type in ("Conv2D", "MatMul"):
            shape = operation.outputs[0].shape.as_list()
            weights = operation.inputs[1].shape.as_list()
            expected += 2 * int(np.prod(shape)) * int(np.prod(weights[:-1]))
    assert zoo.describe(name, input_shape=(side, side, 3))["flops"] == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (None, None, 3)}, "known height and width"),
        ({"input_shape": (32, 32)}, "must be .height, width, channels."),
        ({"input_shape": (3, 3, 3)}, "at least 4x4"),
        ({"classes": 0}, "Received: classes=0"),
        ({"classes": "x"}, "Received: classes='x'"),
    ],
)
def test_what_cannot_be_built_cannot_be_described(arguments, message):
    with pytest.raises(ValueError, match=message):
        zoo.describe("in_resnet20", **arguments)


@pytest.mark.parametrize("name", ["in_resnet8", "in_resnext11_4x16d", "in_resnet50"])
def test_conventions_of_the_batch_normalisations(name):
    found = {
        (layer.momentum, layer.epsilon)
        for layer in zoo.get_model(name).layers
        if isinstance(layer, keras.layers.BatchNormalization)
    }
    assert found == {(0.9, 1.001e-5 if name == "in_resnet50" else 1e-5)}


def test_damped_blocks_keep_their_shape():
    """The rule of the damped blocks, read from the layers themselves."""
    for name in ("in_resnet20", "in_resnext29_2x64d", "in_resnet50"):
        model = zoo.get_model(name)
        merges = [x for x in model.layers if x.name.endswith("_merge")]
        damped = [
            after.name
            for before, after in itertools.pairwise(merges)
            if before.output.shape == after.output.shape
        ]
        assert list(damping_rates(model)) == damped


def small(constructor, **kwargs):
    return constructor(
        input_shape=(32, 32, 3), classes=5, classifier_activation=None, **kwargs
    )


def random_v2(name, rng, **kwargs):
    """A ResNetV2 of keras.applications in which every weight counts."""
    model = small(getattr(keras.applications, name), weights=None, **kwargs)
    model.set_weights(
        [
            rng.uniform(0.5, 1.5, w.shape)
            if w.name in ("gamma", "moving_variance")
            else rng.normal(0, 0.05, w.shape)
            for w in model.weights
        ]
    )
    return model


@pytest.mark.parametrize(
    "depth", [50, *(pytest.param(d, marks=pytest.mark.long) for d in (101, 152))]
)
def test_weights_of_keras_applications(depth, rng, tmp_path):
    source = random_v2(f"ResNet{depth}V2", rng)
    pixels = rng.integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    scaled = keras.applications.resnet_v2.preprocess_input(pixels.astype(np.float32))
    expected = np.asarray(source(scaled))
    scale = np.abs(expected).max()
    for name in (f"resnet{depth}v2", f"in_resnet{depth}"):
        model = small(constructors.BY_MODEL[name])
        zoo.load_application(model, source)
        np.testing.assert_allclose(model(pixels), expected, rtol=0, atol=1e-5 * scale)
        assert set(damping_rates(model).values()) <= {0.0}
    zoo.load_application(model, source, rate=0.2)
    rates = list(damping_rates(model).values())
    assert rates == pytest.approx([0.2] * len(rates), abs=1e-6)
    assert np.abs(model(pixels) - expected).max() > 1e-3 * scale


@pytest.fixture(scope="module")
def v2():
    return random_v2("ResNet50V2", np.random.default_rng(0))


@pytest.mark.parametrize(
    "suffix", [".weights.h5", pytest.param(".keras", marks=pytest.mark.long)]
)
def test_files_of_keras_applications(v2, suffix, tmp_path, rng):
    path = tmp_path / f"v2{suffix}"
    v2.save(path) if suffix == ".keras" else v2.save_weights(path)
    values = rng.normal(size=(2, 32, 32, 3)).astype(np.float32)
    options = {"include_preprocessing": False, "weights": path}
    for constructor in (zoo.ResNet50V2, zoo.LambdaInResNet50):
        model = small(constructor, **options)
        np.testing.assert_allclose(model(values), v2(values), rtol=1e-4, atol=1e-4)
    features = small(zoo.InResNet50, include_top=False, pooling="avg", **options)
    expected = keras.Model(v2.inputs[0], v2.get_layer("avg_pool").output)
    np.testing.assert_allclose(features(values), expected(values), rtol=1e-4, atol=1e-4)


def test_imagenet_weights_are_fetched_through_keras(v2, monkeypatch, rng):
    asked = []

    headless = random_v2("ResNet50V2", rng, include_top=False)

    def fetch(**kwargs):
        asked.append(kwargs)
        return headless

    monkeypatch.setattr(keras.applications, "ResNet50V2", fetch)
    options = {"include_preprocessing": False, "include_top": False}
    model = small(zoo.InResNet50, weights="imagenet", **options)
    assert asked == [{"weights": "imagenet", "include_top": False}]
    assert set(damping_rates(model).values()) == {0.0}
    with pytest.raises(ValueError, match="for classes=1000. Received: classes=5"):
        small(zoo.InResNet50, weights="imagenet")
    with pytest.raises(ValueError, match="Received: weights='imagenet'"):
        zoo.InResNeXt50_32x4d(weights="imagenet")

    def fail(**kwargs):
        raise Exception("URL fetch failure: no route")

    monkeypatch.setattr(keras.applications, "ResNet50V2", fail)
    with pytest.raises(OSError, match="ResNet50V2 could not be fetched: URL fetch"):
        zoo.InResNet50(weights="imagenet")


def test_weights_of_another_network_are_refused(v2):
    before = (model := small(zoo.InResNet101)).get_weights()
    with pytest.raises(ValueError, match="resnet50v2 do not fit in_resnet101.*none"):
        zoo.load_application(model, v2)
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="do not fit in_resnet20"):
        zoo.load_application(zoo.InResNet20(), v2)
    with pytest.raises(ValueError, match="'predictions' needs .2048, 3., .* .2048, 5."):
        zoo.load_application(zoo.InResNet50(input_shape=(32, 32, 3), classes=3), v2)
    shallow = random_v2("ResNet101V2", np.random.default_rng(0))
    with pytest.raises(ValueError, match="it has no layer 'stage3_block10_1_bn'"):
        zoo.load_application(small(zoo.InResNet50), shallow)


SMALL = {"input_shape": (8, 8, 1), "classifier_activation": None}


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_a_damped_network_starts_from_an_undamped_one(suffix, tmp_path, rng):
    source = zoo.ResNet20(**SMALL)
    path = tmp_path / f"resnet20{suffix}"
    source.save(path) if suffix == ".keras" else source.save_weights(path)
    pixels = rng.integers(0, 256, (2, 8, 8, 1)).astype(np.uint8)
    model = zoo.LambdaInResNet20(weights=path, **SMALL)
    np.testing.assert_allclose(model(pixels), source(pixels), rtol=1e-5, atol=1e-6)
    assert list(damping_rates(model).values()) == [0.0] * 6
    # Random layers have no weights: neither do they change what is loaded.
    model = zoo.InResNet20(weights=path, stochastic_depth=0.3, noise=0.01, **SMALL)
    np.testing.assert_allclose(model(pixels), source(pixels), rtol=1e-5, atol=1e-6)
    noisy = tmp_path / f"noisy{suffix}"
    model.get_layer("stage1_block2_merge").k.assign(0.4)
    model.save(noisy) if suffix == ".keras" else model.save_weights(noisy)
    for options in ({}, {"stochastic_depth": 0.3, "noise": 0.01}):
        again = zoo.InResNet20(weights=noisy, **SMALL, **options)
        np.testing.assert_array_equal(again(pixels), model(pixels))
    if suffix == ".keras":
        zoo.PlainNet20(**SMALL).save(path)
        with pytest.raises(ValueError, match="with damping plain, not none"):
            zoo.InResNet20(weights=path, **SMALL)


def test_weights_for_a_network_built_on_layers_of_ones_own(tmp_path, rng):
    source = zoo.InResNet8(input_shape=(8, 8, 3), classifier_activation=None)
    source.save(tmp_path / "source.keras")
    inputs = keras.Input((8, 8, 1))
    colours = keras.layers.Conv2D(3, 1, name="mine")
    model = zoo.InResNet8(
        input_tensor=colours(inputs),
        weights=tmp_path / "source.keras",
        classifier_activation=None,
    )
    grey = rng.uniform(0, 255, (2, 8, 8, 1)).astype(np.float32)
    np.testing.assert_allclose(model(grey), source(colours(grey)), rtol=1e-5, atol=1e-5)


def test_files_that_do_not_fit_are_compared(tmp_path):
    path = tmp_path / "features.weights.h5"
    zoo.InResNet20(**SMALL, include_top=False).save_weights(path)
    with pytest.raises(ValueError, match="have no classifier: pass include_top=False"):
        zoo.InResNet20(**SMALL, weights=path)
    with pytest.raises(
        ValueError,
        match="do not fit in_resnet32: .* 272,9.. numbers in .* needs 468,2..",
    ):
        zoo.InResNet32(**SMALL, include_top=False, weights=path)


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_damaged_files_are_said(suffix, tmp_path):
    """Whatever byte is wrong, the error names the file or nothing was lost."""
    path = tmp_path / f"model{suffix}"
    model = zoo.InResNet8(**SMALL)
    model.save(path) if suffix == ".keras" else model.save_weights(path)
    whole = path.read_bytes()
    refused = 0
    for start in range(0, len(whole), len(whole) // 25):
        damaged = whole[:start] + bytes(200) + whole[start + 200 :]
        path.write_bytes(damaged)
        try:
            zoo.InResNet8(**SMALL, weights=path)
        except ValueError as error:
            refused += 1
            assert "model" + suffix in str(error)
    assert refused > 0


def between(model, first, second):
    """The outputs of two layers in one pass in training."""
    part = keras.Model(
        model.inputs[0], [model.get_layer(first).output, model.get_layer(second).output]
    )
    return lambda x: [np.asarray(y) for y in part(x, training=True)]


def test_noise_of_enresnet_is_that_of_its_code(rng):
    model = zoo.EnResNet20()
    pixels = rng.integers(0, 256, (64, 32, 32, 3)).astype(np.uint8)
    kinds = {x.name: type(x) for x in model.layers if x.name.endswith("_noise")}
    assert len(kinds) == 9
    assert kinds.pop("stage1_block1_noise") is keras.layers.GaussianNoise
    assert set(kinds.values()) == {UniformNoise}

    before, after = between(model, "stage1_block1_merge", "stage1_block1_noise")(pixels)
    noise = (after - before).astype(np.float64)
    assert noise.mean() == pytest.approx(0, abs=1e-5)
    assert noise.std() == pytest.approx(0.001, rel=0.01)
    assert np.abs(noise).max() > 0.004
    before, after = between(model, "stage3_block3_merge", "stage3_block3_noise")(pixels)
    noise = (after - before).astype(np.float64)
    rounding = 1e-6
    assert -rounding <= noise.min() < 1e-5 and 0.00099 < noise.max() <= 0.001 + rounding
    assert noise.mean() == pytest.approx(0.0005, rel=0.02)

    quiet = zoo.ResNet20()
    quiet.set_weights(model.get_weights())
    np.testing.assert_array_equal(model(pixels[:4]), quiet(pixels[:4]))


def test_stochastic_depth(rng, tmp_path):
    """Branches go whole, more often the deeper, and are scaled to keep the mean."""
    p = 0.4
    model = zoo.InResNet20(stochastic_depth=p, input_shape=(4, 4, 3))
    rates = {x.name: x.rate for x in model.layers if x.name.endswith("_drop")}
    expected = [p * i / 8 for i in range(1, 9)]
    assert list(rates.values()) == pytest.approx(expected)
    assert list(rates)[-1] == "stage3_block3_drop"

    pixels = rng.integers(0, 256, (2000, 4, 4, 3)).astype(np.uint8)
    branch, dropped = between(model, "stage3_block3_2_conv", "stage3_block3_drop")(
        pixels
    )
    ratio = dropped / np.where(branch == 0, np.nan, branch)
    kept = np.nanmax(np.abs(ratio), axis=(1, 2, 3)) > 0
    np.testing.assert_allclose(dropped[kept], branch[kept] / (1 - p), rtol=1e-5)
    assert not dropped[~kept].any()
    # Five standard deviations of a binomial distribution.
    assert (~kept).mean() == pytest.approx(p, abs=5 * np.sqrt(p * (1 - p) / 2000))

    model.save_weights(tmp_path / "model.weights.h5")
    steady = zoo.InResNet20(
        input_shape=(4, 4, 3), weights=tmp_path / "model.weights.h5"
    )
    np.testing.assert_array_equal(model(pixels[:9]), steady(pixels[:9]))


def test_fine_tuning_on_a_folder_of_images(trained, digits, tmp_path):
    """Features of a network of ten digits serve to tell two from few images."""
    for digit, name in ((3, "three"), (8, "eight")):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for i in np.flatnonzero(digits.train.labels == digit)[:50]:
            image = digits.train.images[i, ..., 0]
            PIL.Image.fromarray(image).save(folder / f"{i}.png")
    photos = data.load(f"folder:{tmp_path / 'photos'}")
    assert photos.class_names == ("eight", "three")
    grey = [part.images.mean(-1, keepdims=True) for part in (photos.train, photos.test)]

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
        model.fit(grey[0], photos.train.labels, epochs=15, verbose=0)
        _, accuracy = model.evaluate(grey[1], photos.test.labels, verbose=0)
        accuracies.append(accuracy)
    assert accuracies[0] > 0.9 and accuracies[0] > accuracies[1]


@pytest.mark.parametrize(
    ("constructor", "arguments", "message"),
    [
        ("InResNet8", {"stochastic_depth": 1.0}, "in .0, 1.. Received.*=1.0"),
        (
            "InResNet8",
            {"stochastic_depth": "half"},
            "Received: stochastic_depth='half'",
        ),
        ("InResNet8", {"noise": -0.1}, "`noise` must be a number in .0, 1."),
        ("PlainNet20", {"stochastic_depth": 0.5}, "damping='plain' needs"),
        ("InResNet50", {"input_shape": (31, 64, 3)}, "at least 32x32 .*reduce them 32"),
        ("InResNeXt29_8x64d", {"input_shape": (3, 3, 3)}, "at least 4x4"),
        ("InResNet152", {"classes": 0}, "positive integer. Received: classes=0"),
    ],
)
def test_wrong_arguments(constructor, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(zoo, constructor)(**arguments)
