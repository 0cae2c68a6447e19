import json

import keras
import numpy as np
import pytest

import zoo
from inres_tf import pixels
from inres_tf.data import Images
from inres_tf.errors import UserError
from inres_tf.evaluation import EvaluationConfig, evaluate, results, validation
from inres_tf.models import with_preprocessing


@pytest.fixture(scope="module")
def model():
    return zoo.InResNet8(input_shape=(8, 8, 1), classes=3)


def images(shape=(8, 8, 1), labels=(0, 1, 2)):
    return Images(np.zeros((len(labels), *shape), np.uint8), np.array(labels))


def test_more_examples_than_images_are_refused():
    validation.check_number(EvaluationConfig(num_examples=3), images())
    validation.check_number(EvaluationConfig(), images())
    with pytest.raises(UserError, match="--num_examples=4 is more than the 3 test"):
        validation.check_number(EvaluationConfig(num_examples=4), images())


def test_images_of_another_shape_are_refused(model):
    validation.check_fits(model, images())
    message = "takes images of 8x8x1, but the dataset's are 4x4x3; pass the --dataset"
    with pytest.raises(UserError, match=message):
        validation.check_fits(model, images((4, 4, 3)))


def test_a_model_for_any_size_takes_any_size():
    model = zoo.InResNet8(input_shape=(None, None, 1))
    validation.check_fits(model, images((5, 7, 1)))
    with pytest.raises(UserError, match="takes images of anyxanyx1, but .* 5x7x3"):
        validation.check_fits(model, images((5, 7, 3)))


def test_images_of_more_classes_are_refused(model):
    with pytest.raises(UserError, match="has 3 classes, but the dataset has at least"):
        validation.check_fits(model, images(labels=(0, 3)))


def test_labels_in_a_column_are_those_of_a_row(digits):
    """As `keras.datasets` gives them."""
    model = zoo.InResNet8(input_shape=(8, 8, 1))
    few = digits.test.take(slice(40))
    config = EvaluationConfig(attacks=(), corruptions=())
    row, column = (
        evaluate(model, Images(few.images, labels), config, progress=False)
        for labels in (few.labels, few.labels[:, None])
    )
    assert row["clean"] == column["clean"]
    assert row["fingerprint"] == column["fingerprint"]


def test_attacks_may_need_more_classes(model):
    validation.check_classes(model, EvaluationConfig(attacks=("apgd_ce", "square")))
    members = EvaluationConfig(attacks=("autoattack",), autoattack=("fab", "square"))
    validation.check_classes(model, members)
    for name in ("autoattack", "apgd_dlr"):
        message = f"{name} needs at least 4 classes, but model .* has 3"
        with pytest.raises(UserError, match=message):
            validation.check_classes(model, EvaluationConfig(attacks=(name,)))


def test_an_incomplete_folder_of_corrupted_sets_is_refused(tmp_path):
    np.save(tmp_path / "fog.npy", np.zeros((10, 8, 8, 1), np.uint8))
    np.save(tmp_path / "labels.npy", np.arange(2))
    source = f"folder:{tmp_path}"
    validation.check_corrupted_sets(
        EvaluationConfig(corruptions=("fog",), corruption_source=source)
    )
    config = EvaluationConfig(corruptions=("fog", "snow"), corruption_source=source)
    with pytest.raises(UserError, match="has no snow.npy"):
        validation.check_corrupted_sets(config)


def test_a_baseline_of_other_images_or_settings_is_refused(tmp_path):
    path = tmp_path / "baseline.json"
    baseline = {
        "model": "m",
        "dataset": "digits",
        "num_examples": 3,
        "protocol": "standard",
        "seed": 0,
        "fingerprint": results.fingerprint(images().images, images().labels),
        "clean": {"accuracy": 0.5},
        "corruption_source": "generated",
        "corruptions": {"fog": {"1": 0.5, "mean": 0.5}},
    }
    path.write_text(json.dumps(baseline))

    def read(data=None, **changes):
        settings = {"corruptions": ("fog",), "baseline": str(path)} | changes
        return validation.read_baseline(EvaluationConfig(**settings), data or images())

    assert read() == baseline
    for change, message in (
        ({"seed": 1}, "was evaluated with another seed: 0 there, 1 here"),
        ({"protocol": "paper"}, "another protocol: standard there, paper here"),
        ({"corruption_source": "folder:x"}, "another corruption_source"),
        ({"data": images(labels=(2, 1, 0))}, "another fingerprint"),
        ({"corruptions": ("fog", "snow")}, "lacks snow"),
        ({"corruptions": ()}, "--baseline needs --corruptions"),
    ):
        with pytest.raises(UserError, match=message):
            read(**change)
    del baseline["corruptions"]
    path.write_text(json.dumps(baseline))
    with pytest.raises(UserError, match="lacks fog"):
        read()


def test_examples_of_the_users_own_attack_are_checked():
    row = {"name": "mine:attack", "norm": "linf", "eps": 2.0}
    clean = np.full((1, 2, 2, 1), 100, np.uint8)
    pixels = validation.check_examples(row, (clean + 2).tolist(), clean)
    assert pixels.dtype == np.float32 and (pixels == 102).all()
    for adversarial, message in (
        (clean[..., 0], r"must return pixels of the shape .* \(1, 2, 2, 1\); got"),
        (clean + 3, "--attacks=mine:attack: .* outside the ball"),
        (np.full(clean.shape, np.nan), "--attacks=mine:attack: "),
    ):
        with pytest.raises(UserError, match=message):
            validation.check_examples(row, adversarial, clean)
    black = np.zeros_like(clean)
    with pytest.raises(UserError, match="outside the pixel range"):
        validation.check_examples(row, black - 1.0, black)


def expecting(scale, offset, model):
    """A model of (pixels - offset) / scale, instead of pixels."""
    inputs = keras.Input(model.input_shape[1:])
    rescaled = keras.layers.Rescaling(scale, offset)(inputs)
    return keras.Model(inputs, model(rescaled), name="scaled")


@pytest.mark.parametrize(
    ("name", "scale", "offset"), [("unit", 255.0, 0.0), ("symmetric", 127.5, 127.5)]
)
def test_models_of_scaled_pixels_are_recognised(name, scale, offset, trained, digits):
    model = expecting(scale, offset, trained)
    message = f"scaled classifies .* of 100 .* scaled by --preprocessing={name}"
    with pytest.raises(UserError, match=f"{message}: pass"):
        validation.check_preprocessing(model, digits.test)
    config = EvaluationConfig(attacks=(), corruptions=(), check_examples=2)
    with pytest.warns(pixels.PixelWarning, match=f"{message}$"):
        evaluate(model, digits.test, config, progress=False)
    scaled = with_preprocessing(model, name)
    assert validation.preprocessing_problem(scaled, digits.test) == ""


def test_coloured_images(rng):
    """The class is whether there is more blue than red; the model takes BGR."""
    pictures = rng.integers(0, 256, (40, 4, 4, 3)).astype(np.uint8)
    colours = pictures.mean((1, 2), dtype=float) - [123.68, 116.779, 103.939]
    labels = (colours[:, 2] > colours[:, 0]).astype(int)
    inputs = keras.Input((4, 4, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2, name="head")(x))
    model.get_layer("head").set_weights(
        [np.array([[-1.0, 1.0], [0.0, 0.0], [1.0, -1.0]]), np.zeros(2)]
    )
    problem = validation.preprocessing_problem(model, Images(pictures, labels))
    assert "and 40 if their pixels are scaled by --preprocessing=caffe" in problem


def test_models_of_pixels_need_no_preprocessing(trained, digits):
    validation.check_preprocessing(trained, digits.test)
    # Nor those that know nothing, or always answer the most frequent class.
    keras.utils.set_random_seed(0)
    validation.check_preprocessing(zoo.InResNet8(input_shape=(8, 8, 1)), digits.test)
    zero = zoo.ResNet8(input_shape=(8, 8, 1))
    zero.set_weights([0 * weight for weight in zero.get_weights()])
    validation.check_preprocessing(zero, digits.test)


def test_models_of_other_images_are_refused_elsewhere(trained, digits):
    other = zoo.InResNet8(input_shape=(9, 9, 1))
    validation.check_preprocessing(other, digits.test)
