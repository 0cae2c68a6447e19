"""Properties of every attack: early stopping, non-finite values and errors."""

import inspect

import keras
import numpy as np
import pytest

from inres_tf import attacks
from inres_tf.attacks import ATTACKS, AttackError
from inres_tf.distribution import classifier
from inres_tf.evaluation import EvaluationConfig

# Every attack, with few steps.
SHORT = {
    "fgsm": {},
    "ifgsm": {"steps": 6, "step_size": 3.0},
    "pgd": {"steps": 6, "step_size": 3.0, "restarts": 2},
    "mim": {"steps": 6, "step_size": 3.0},
    "cw_l2": {"steps": 12, "searches": 3},
    "spsa": {"steps": 6, "samples": 8},
    "apgd_ce": {"steps": 8, "restarts": 2},
    "apgd_dlr": {"steps": 8, "targets": 2},
    "fab": {"steps": 6, "targets": 2},
    "square": {"queries": 30},
    "autoattack": {"steps": 4, "queries": 8},
}
EPS = {"cw_l2": 60.0, "fgsm": 20.0}


def test_every_attack_is_tested():
    # Those of cleverhans have no early stop.
    ours = {name for name in ATTACKS if not name.startswith("cleverhans")}
    assert set(SHORT) == ours


@pytest.mark.parametrize("name", ATTACKS)
def test_signatures_are_explicit(name):
    parameters = inspect.signature(getattr(attacks, name)).parameters
    assert list(parameters)[:4] == ["model", "images", "labels", "eps"]
    assert {"seed", "batch_size", "ids", "progress"} <= set(parameters)
    assert parameters["seed"].default == 0
    kinds = [p.kind for p in parameters.values()]
    assert set(kinds[:4]) == {inspect.Parameter.POSITIONAL_OR_KEYWORD}
    assert set(kinds[4:]) == {inspect.Parameter.KEYWORD_ONLY}
    # Evaluations pass the settings of the registry by name.
    assert ("norm" in parameters) == (ATTACKS[name].norms == ("linf", "l2"))


def test_evaluations_attack_with_the_settings_of_the_papers():
    def settings(name, protocol="standard"):
        return ATTACKS[name].settings(EvaluationConfig(protocol=protocol), 8.0)

    early = {"norm": "linf", "early_stop": True}
    all_steps = {"norm": "linf", "early_stop": False}
    steps = {"steps": 20, "step_size": 1.0}
    assert settings("fgsm") == early and settings("fgsm", "paper") == all_steps
    assert settings("ifgsm") == steps | early
    assert settings("ifgsm", "paper") == steps | all_steps
    assert settings("mim") == steps | {"decay": 1.0} | early
    steps["restarts"] = 1
    assert settings("pgd") == steps | {"center": "image"} | early
    assert settings("pgd", "paper") == steps | {"center": "start"} | all_steps
    searches = {"steps": 100, "searches": 9, "learning_rate": 0.01, "weight": 1.0}
    assert settings("cw_l2") == searches | {"confidence": 0.0, "early_stop": True}
    samples = {"steps": 100, "samples": 32, "learning_rate": 2.55, "delta": 2.55}
    assert settings("spsa") == samples | early
    steps = {"steps": 100, "restarts": 1}
    assert settings("apgd_ce") == steps | {"samples": 1} | early
    assert settings("apgd_dlr") == steps | {"samples": 1, "targets": 9} | early
    assert settings("fab") == steps | {"targets": 9} | early
    queries = {"queries": 5000, "restarts": 1, "share": 0.8, "rescale": True}
    assert settings("square") == queries | early


@pytest.fixture(scope="module")
def model(dense):
    rng = np.random.default_rng(1)
    hidden = rng.normal(size=(48, 9)) / 300, rng.normal(size=9)
    return dense((4, 4, 3), hidden, (rng.normal(size=(9, 5)), np.zeros(5)), spy=True)


@pytest.mark.parametrize("name", SHORT)
def test_early_stopping_is_as_strong_and_cheaper(name, model):
    rng = np.random.default_rng(2)
    images = rng.uniform(0, 255, (40, 4, 4, 3)).astype(np.float32)
    labels = model(images).numpy().argmax(-1)
    labels[:5] = (labels[:5] + 1) % 5
    spy, queried = model.get_layer("spy"), {}

    def accuracy(eps, early_stop):
        spy.rows.clear()
        attack = getattr(attacks, name)
        settings = SHORT[name] | {"seed": 3, "batch_size": 16}
        settings["early_stop"] = early_stop
        adversarial = attack(model, images, labels, eps, **settings)
        queried[early_stop] = sum(spy.rows)
        if early_stop:
            np.testing.assert_array_equal(adversarial[:5], images[:5])
        return (model(adversarial).numpy().argmax(-1) == labels).mean()

    eps = EPS.get(name, 14.0)
    for share in (0.5, 1.0):
        full, early = accuracy(share * eps, False), accuracy(share * eps, True)
        assert early <= full
        # For a single step, checking the clean images costs as much as it saves.
        assert queried[True] < queried[False] or name == "fgsm"
    assert 0 < early < 0.8  # successful on some images only


class Broken(keras.layers.Layer):
    """Non-finite logits, or only gradients, for images with a mean above 100."""

    def __init__(self, logits, **settings):
        super().__init__(**settings)
        self.logits = logits

    def call(self, images):
        flat = keras.ops.reshape(images, (-1, 4))
        mean = keras.ops.mean(flat, axis=1, keepdims=True)
        if self.logits:
            extra = keras.ops.where(mean > 100, np.nan, 0.0)
        else:  # the gradient of the branch that is not selected is zero times NaN
            extra = keras.ops.where(mean > 100, 0.0, keras.ops.power(100 - mean, 0.5))
        return flat / 255 + extra


def broken(logits):
    layers = [Broken(logits), keras.layers.Dense(4, use_bias=False)]
    model = keras.Sequential([keras.Input((2, 2, 1)), *layers])
    model.layers[-1].set_weights([np.eye(4)])
    return model


@pytest.mark.parametrize(
    "name",
    ["fgsm", "pgd", "mim", "cw_l2", "spsa", "apgd_ce", "apgd_dlr", "fab", "square"],
)
def test_nan_logits_count_as_misclassified(name):
    model = broken(logits=True)
    images = np.full((5, 2, 2, 1), 101.0)
    labels = np.append(np.arange(4), 0)  # the argmax of NaN is class 0
    images[4] = 90.0  # far from NaN
    images[4, 0, 0] += 5
    attack, settings = getattr(attacks, name), SHORT[name]
    correct = classifier.compiled_classifier(model, 4).correct
    assert correct(images, labels).tolist() == [False] * 4 + [True]
    adversarial = attack(model, images, labels, 0.5, early_stop=True, **settings)
    np.testing.assert_array_equal(adversarial[:4], images[:4])
    # Without early stopping, they do not end the attack of the others.
    adversarial = attack(model, images, labels, 0.5, early_stop=False, **settings)
    assert not correct(adversarial[:4], labels[:4]).any()
    attacks.check(adversarial, images, 0.5, 2 if name == "cw_l2" else np.inf)
    alone = attack(model, images[4:], labels[4:], 0.5, ids=[4], **settings)
    np.testing.assert_allclose(adversarial[4:], alone, atol=1e-4)


@pytest.mark.parametrize("name", ["pgd", "mim", "apgd_ce", "fab", "square"])
def test_nan_logits_within_the_ball_are_found(name):
    """On the way to a less likely class, all values become larger than 100."""
    model = broken(logits=True)
    images, labels = np.full((1, 2, 2, 1), 98.0), np.array([0])
    images[0, 0, 0] += 3
    attack, settings = getattr(attacks, name), SHORT[name] | {"early_stop": False}
    assert model(images).numpy().argmax() == 0
    adversarial = attack(model, images, labels, 6.0, **settings)
    correct = classifier.compiled_classifier(model, 4).correct
    assert not correct(adversarial, labels).any()


@pytest.mark.parametrize("name", ["fgsm", "mim", "cw_l2", "apgd_ce", "fab"])
def test_nan_gradients_are_errors(name):
    model = broken(logits=False)
    images = np.full((1, 2, 2, 1), 150.0)
    images[0, 0, 0] += 5
    assert classifier.compiled_classifier(model, 4).correct(images, np.array([0])).all()
    attack, settings = getattr(attacks, name), SHORT[name] | {"early_stop": True}
    with pytest.raises(AttackError, match="non-finite"):
        attack(model, images, np.array([0]), 0.5, **settings)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("fgsm", {"eps": 0}, "`eps` must be in (0, 255]. Received: eps=0"),
        ("fgsm", {"eps": 256}, "Received: eps=256"),
        ("fgsm", {"eps": float("inf"), "norm": "l2"}, "Received: eps=inf"),
        ("fgsm", {"norm": "l1"}, "`norm` must be 'linf' or 'l2'. Received: norm='l1'"),
        (
            "fgsm",
            {"labels": np.array([0, 5, 1])},
            "Received 5 for image 1: there are 5 classes",
        ),
        (
            "fgsm",
            {"labels": np.array([-1, 2, 1])},
            "-1 for image 0: its class is unknown",
        ),
        ("fgsm", {"labels": np.zeros(3) + 0.5}, "it must be a whole number"),
        ("fgsm", {"ids": [1, 2]}, "ids of shape (2,) for 3 images"),
        ("autoattack", {"ids": range(4)}, "ids of shape (4,) for 3 images"),
        ("fgsm", {"batch_size": 0}, "`batch_size` must be positive"),
        *(
            (
                name,
                {"images": np.zeros(shape)},
                f"shape (number, 4, 4, 3) that {{}} takes. Received: images of shape "
                f"{shape}",
            )
            for name in ("pgd", "square", "cleverhans_fgsm")
            for shape in ((3, 4, 4), (3, 5, 4, 3), (3, 4, 4, 1))
        ),
        ("ifgsm", {"steps": 10**7}, "`steps` must be from 1 to 10^6"),
        ("ifgsm", {"step_size": 0}, "must be positive. Received: step_size=0"),
        (
            "cleverhans_pgd",
            {"eps": 0.5},
            "takes steps of at most `eps`, which it refuses to exceed. Received: "
            "step_size=1, eps=0.5",
        ),
        ("pgd", {"restarts": 0}, "`restarts` must be a positive integer"),
        ("mim", {"decay": 1.5}, "`decay` must be in [0, 1]. Received: decay=1.5"),
        ("fab", {"targets": -2}, "`targets` must be 0 or a positive integer"),
        ("autoattack", {"images": np.full((3, 4, 4, 3), -1.0)}, "from -1 to -1"),
    ],
)
def test_invalid_arguments(name, change, message, model):
    arguments = {"images": np.zeros((3, 4, 4, 3)), "labels": np.zeros(3, int), "eps": 8}
    with pytest.raises(ValueError) as caught:
        getattr(attacks, name)(model, **arguments | change)
    assert message.replace("{}", model.name) in str(caught.value)


def test_whole_numbers_of_steps_may_be_floats(model, rng):
    images = rng.uniform(0, 255, (3, 4, 4, 3))
    data = model, images, np.zeros(3, int), 8
    for name in ("pgd", "apgd_ce", "cw_l2"):
        attack = getattr(attacks, name)
        found = attack(*data, steps=2.0)
        np.testing.assert_array_equal(found, attack(*data, steps=2))


class Subclassed(keras.Model):
    def call(self, images):
        return keras.ops.mean(images, axis=(1, 2))


@pytest.mark.parametrize("name", SHORT)
def test_models_without_logits_are_refused(name):
    with pytest.raises(ValueError, match="logits of .* cannot be found"):
        getattr(attacks, name)(Subclassed(), np.zeros((3, 4, 4, 3)), [0, 1, 2], 8)


@pytest.mark.parametrize("name", SHORT)
def test_no_images_result_in_no_examples(name, model):
    attack, images = getattr(attacks, name), np.zeros((0, 4, 4, 3))
    adversarial = attack(model, images, np.zeros(0, int), 8)
    assert adversarial.shape == (0, 4, 4, 3) and adversarial.dtype == np.float32
