"""AutoAttack: which members it calls with what, on which images, and its result."""

import dataclasses
import inspect

import keras
import numpy as np
import pytest

from inres_tf import attacks
from inres_tf.attacks.versions import MEMBERS, VERSIONS
from inres_tf.data import Images
from inres_tf.distribution.classifier import compiled_classifier
from inres_tf.evaluation import EvaluationConfig, evaluate

# The published members and their settings.
ONCE = {"restarts": 1, "steps": 100}
SQUARE = {"restarts": 1, "queries": 5000, "share": 0.8, "rescale": False}
PUBLISHED = {
    "standard": [
        ("apgd_ce", ONCE | {"samples": 1}),
        ("apgd_dlr", ONCE | {"targets": 9, "samples": 1}),
        ("fab", ONCE | {"targets": 9}),
        ("square", SQUARE),
    ],
    "plus": [
        ("apgd_ce", ONCE | {"restarts": 5, "samples": 1}),
        ("apgd_dlr", ONCE | {"restarts": 5, "targets": 0, "samples": 1}),
        ("fab", ONCE | {"restarts": 5, "targets": 0}),
        ("square", SQUARE),
        ("apgd_dlr", ONCE | {"targets": 9, "samples": 1}),
        ("fab", ONCE | {"targets": 9}),
    ],
    "rand": [
        ("apgd_ce", ONCE | {"samples": 20}),
        ("apgd_dlr", ONCE | {"targets": 0, "samples": 20}),
    ],
}


@pytest.fixture(scope="module")
def model(dense):
    rng = np.random.default_rng(1)
    hidden = rng.normal(size=(27, 9)) / 300, rng.normal(size=9)
    return dense((3, 3, 3), hidden, (rng.normal(size=(9, 5)), np.zeros(5)))


@pytest.fixture(scope="module")
def data(model):
    images = np.random.default_rng(2).uniform(0, 255, (30, 3, 3, 3)).astype(np.float32)
    labels = model(images).numpy().argmax(-1)
    labels[:3] = (labels[:3] + 1) % 5
    return images, labels


def replace_attack(monkeypatch, name, function):
    replaced = dataclasses.replace(attacks.ATTACKS[name], function=function)
    monkeypatch.setitem(attacks.ATTACKS, name, replaced)


@pytest.fixture
def calls(monkeypatch):
    """Records how members are called; they return images, with the first one black."""
    calls = []

    def spied(function):
        def spy(*arguments, **settings):
            bound = inspect.signature(function).bind(*arguments, **settings)
            bound.apply_defaults()
            calls.append((function.__name__, bound.arguments))
            adversarial = np.array(bound.arguments["images"], np.float32)
            adversarial[:1] = 0
            return adversarial

        return spy

    for name, _ in MEMBERS.values():
        function = spied(getattr(attacks, name))
        replace_attack(monkeypatch, name, function)
    return calls


@pytest.mark.parametrize("version", PUBLISHED)
def test_members_and_settings_are_as_published(version, calls, model, data):
    attacks.autoattack(model, *data, 8, version=version, norm="l2", seed=4)
    assert [name for name, _ in calls] == [name for name, _ in PUBLISHED[version]]
    shared = {"eps": 8, "norm": "l2", "seed": 4, "early_stop": True}
    for (_, arguments), (_, settings) in zip(calls, PUBLISHED[version]):
        expected = settings | shared
        assert {name: arguments[name] for name in expected} == expected


def test_members_attack_only_what_is_still_classified_correctly(calls, model, data):
    images, labels = data
    class_of_black = model(np.zeros((1, 3, 3, 3))).numpy().argmax()
    correct = np.ones(30, bool)
    reports = []
    adversarial = attacks.autoattack(
        model,
        images,
        labels,
        8,
        ids=np.arange(100, 130),
        report=lambda name, correct: reports.append((name, correct)),
    )
    clean_correct = model(images).numpy().argmax(-1) == labels
    expected = images.copy()
    for (_, arguments), (_, reported) in zip(calls, reports):
        attacked = np.flatnonzero(correct)
        np.testing.assert_array_equal(arguments["images"], images[attacked])
        np.testing.assert_array_equal(arguments["labels"], labels[attacked])
        np.testing.assert_array_equal(arguments["ids"], 100 + attacked)
        expected[attacked] = images[attacked]
        expected[attacked[0]] = 0
        correct = correct & clean_correct
        correct[attacked[0]] = labels[attacked[0]] == class_of_black
        np.testing.assert_array_equal(reported, correct)
    assert [name for name, _ in reports] == list(VERSIONS["standard"])
    sizes = [len(arguments["images"]) for _, arguments in calls]
    assert sizes[0] == 30 > sizes[1] >= sizes[2] >= sizes[3] > 0
    np.testing.assert_array_equal(adversarial, expected)


def test_without_early_stop_members_attack_every_image(calls, model, data):
    attacks.autoattack(model, *data, 8, early_stop=False)
    assert all(len(arguments["images"]) == 30 for _, arguments in calls)
    assert not any(arguments["early_stop"] for _, arguments in calls)


def test_later_members_do_not_undo_what_earlier_ones_achieved(model, data, monkeypatch):
    """Without early stopping, the last member attacks all images, in vain."""
    _, labels = data

    def succeed(model, images, labels, eps, **settings):
        return np.zeros_like(images)

    def fail(model, images, labels, eps, **settings):
        return images

    replace_attack(monkeypatch, "apgd_ce", succeed)
    replace_attack(monkeypatch, "square", fail)
    settings = {"version": "custom", "members": ("apgd_ce", "square")}
    adversarial = attacks.autoattack(model, *data, 255, early_stop=False, **settings)
    black = model(np.zeros((1, 3, 3, 3))).numpy().argmax()
    fooled = labels != black
    assert fooled[3:].any()
    found = model(adversarial).numpy().argmax(-1)
    assert (found[fooled] != labels[fooled]).all()


def test_result_is_that_of_its_members_in_sequence(model, data):
    images, labels = data
    eps, budget = 36.0, {"steps": 6}
    settings = {"norm": "l2", "seed": 2, "early_stop": True}
    expected, correct, counts = images.copy(), np.ones(30, bool), []
    for function, extra in (
        (attacks.apgd_ce, budget),
        (attacks.apgd_dlr, budget),
        (attacks.fab, budget),
        (attacks.square, {"queries": 20, "rescale": False}),
    ):
        single = function(model, images, labels, eps, **settings, **extra)
        single_correct = model(single).numpy().argmax(-1) == labels
        counts.append(single_correct.sum())
        expected[correct] = single[correct]
        correct &= single_correct
    reports = []
    adversarial = attacks.autoattack(
        model,
        images,
        labels,
        eps,
        steps=6,
        queries=20,
        report=lambda name, correct: reports.append(correct.sum()),
        **settings,
    )
    still_correct = model(adversarial).numpy().argmax(-1) == labels
    np.testing.assert_array_equal(still_correct, correct)
    np.testing.assert_allclose(adversarial, expected, atol=1e-2)
    np.testing.assert_array_equal(adversarial[:3], images[:3])
    assert correct.sum() <= min(counts) and correct.sum() == reports[-1]
    assert reports == sorted(reports, reverse=True) and 0 < correct.sum() < 27


def test_custom_members_run_in_their_order(calls, model, data):
    members = ("square", "fab_untargeted", "apgd_ce")
    settings = {"version": "custom", "members": members, "steps": 7, "queries": 9}
    attacks.autoattack(model, *data, 8, **settings)
    assert [name for name, _ in calls] == ["square", "fab", "apgd_ce"]
    (_, square), (_, fab), (_, apgd) = calls
    assert square["queries"] == 9 and fab["steps"] == apgd["steps"] == 7
    assert fab["targets"] == 0


def test_low_precision_models_are_copied_once(data, monkeypatch):
    """All members attack the same float32 copy."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = keras.Sequential(
            [keras.Input((3, 3, 3)), keras.layers.Flatten(), keras.layers.Dense(5)]
        )
    finally:
        keras.config.set_dtype_policy("float32")
    attacked = []

    def member(model, images, *arguments, **settings):
        attacked.append(model)
        return np.asarray(images)

    for name, _ in MEMBERS.values():
        replace_attack(monkeypatch, name, member)
    attacks.autoattack(half, *data, 8)
    assert len(attacked) == 4 and all(model is attacked[0] for model in attacked)
    assert attacked[0].layers[-1].compute_dtype == "float32"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"version": "best"}, "standard, plus, rand, custom. Received: version='best'"),
        ({"version": "custom"}, "`members` must be given for version 'custom'"),
        ({"members": ("fab",)}, "and for no other. Received: version='standard'"),
        ({"version": "custom", "members": ("pgd",)}, "Received: 'pgd'"),
        ({"version": "custom", "members": ("fab", "fab")}, "must not repeat"),
        ({"eps": 300}, "`eps` must be in (0, 255]"),
        ({"steps": 0}, "`steps` must be from 1"),
        ({"norm": "l1"}, "`norm` must be 'linf' or 'l2'"),
    ],
)
def test_invalid_arguments(settings, message, model, data):
    with pytest.raises(ValueError) as caught:
        attacks.autoattack(model, *data, **{"eps": 8} | settings)
    assert message in str(caught.value)


def test_standard_version_needs_four_classes(dense):
    model = dense((2, 2, 1), (np.ones((4, 3)), np.zeros(3)))
    data = np.zeros((2, 2, 2, 1)), np.zeros(2, int)
    with pytest.raises(ValueError, match="needs 4 classes and the model has 3"):
        attacks.autoattack(model, *data, 8, steps=2, queries=2)
    members = ("apgd_ce", "apgd_dlr_untargeted", "fab", "square")
    settings = {"version": "custom", "members": members, "steps": 2, "queries": 2}
    assert attacks.autoattack(model, *data, 8, **settings).shape == data[0].shape


@pytest.mark.parametrize("version", ["standard", "plus", "rand"])
def test_too_few_classes_are_refused_before_any_query(version, dense):
    classes = {"standard": 3, "plus": 3, "rand": 2}[version]
    layer = np.ones((4, classes)), np.zeros(classes)
    model = dense((2, 2, 1), layer, spy=True)
    with pytest.raises(ValueError, match=f"version '{version}' of AutoAttack needs"):
        attacks.autoattack(model, np.zeros((2, 2, 2, 1)), [0, 1], 8, version=version)
    assert not model.get_layer("spy").rows


class Noise(keras.layers.Layer):
    """Adds noise, at inference too."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed = keras.random.SeedGenerator(1)

    def call(self, images):
        noise = keras.random.normal(keras.ops.shape(images), seed=self.seed)
        return images + 40 * noise


@pytest.fixture
def random_network(model):
    inputs = keras.Input((3, 3, 3))
    return keras.Model(inputs, model(Noise()(inputs)))


def test_random_networks_are_attacked_by_all_steps(model, data, dense):
    """No image leaves after one lucky pass, such as the one before the first step."""
    images, labels = data
    hidden, output = (layer.get_weights() for layer in model.layers[1:])
    spied = dense((3, 3, 3), hidden, output, spy=True)
    settings = {"steps": 3, "samples": 4, "early_stop": True}
    found = attacks.apgd_ce(spied, images, labels, 8, **settings)
    assert sum(spied.get_layer("spy").rows) == len(images) * 4 * (1 + 3)
    # Those that were misclassified are attacked too.
    assert (found[:3] != images[:3]).any(axis=(1, 2, 3)).all()


def test_random_networks_are_judged_by_the_majority_of_passes(random_network, data):
    images, labels = data
    reports = []
    adversarial = attacks.autoattack(
        random_network,
        images,
        labels,
        12,
        version="rand",
        steps=10,
        report=lambda name, correct: reports.append((name, correct.mean())),
    )
    classifier = compiled_classifier(random_network, 30)
    shares = classifier.shares(adversarial, labels, 60)
    assert [name for name, _ in reports] == ["apgd_ce", "apgd_dlr_untargeted"]
    assert 0.05 < shares.mean() < 0.95
    assert reports[-1][1] == pytest.approx((shares > 0.5).mean(), abs=0.1)
    assert reports[-1][1] == pytest.approx(shares.mean(), abs=0.15)


def test_evaluations_report_one_figure_of_random_networks(random_network, data):
    config = EvaluationConfig(
        attacks=("autoattack",),
        autoattack=("rand",),
        eps=(12.0,),
        apgd_steps=4,
        corruptions=(),
        check_examples=2,
    )
    images = Images(data[0].astype(np.uint8), data[1])
    result = evaluate(random_network, images, config, progress=False)
    (row,) = result["attacks"]
    assert row["passes"] == 20
    assert row["accuracy"] == row["after"]["apgd_dlr_untargeted"]
    assert row["accuracy"] <= row["after"]["apgd_ce"]
