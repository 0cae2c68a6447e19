"""AutoAttack: who is called with what, on which images, and what comes of it."""

import dataclasses
import inspect

import keras
import numpy as np
import pytest

from inres_tf import attacks
from inres_tf.attacks.versions import MEMBERS, VERSIONS

# As published: each member, and what it is called with.
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
    """What members are called with, defaults too; they find the images themselves."""
    calls = []

    def spied(function):
        def spy(*arguments, **settings):
            bound = inspect.signature(function).bind(*arguments, **settings)
            bound.apply_defaults()
            calls.append((function.__name__, bound.arguments))
            found = np.array(bound.arguments["images"], np.float32)
            # Each makes the first image that it is given dark.
            found[:1] = 0
            return found

        return spy

    for name, _ in MEMBERS.values():
        function = spied(getattr(attacks, name))
        replace_attack(monkeypatch, name, function)
    return calls


@pytest.mark.parametrize("version", PUBLISHED)
def test_members_and_settings_are_the_published_ones(version, calls, model, data):
    attacks.autoattack(model, *data, 8, version=version, norm="l2", seed=4)
    assert [name for name, _ in calls] == [name for name, _ in PUBLISHED[version]]
    for (_, found), (_, expected) in zip(calls, PUBLISHED[version]):
        shared = {"eps": 8, "norm": "l2", "seed": 4, "early_stop": True}
        assert {key: found[key] for key in {**expected, **shared}} == expected | shared


def test_members_see_the_survivors_alone(calls, model, data):
    images, labels = data
    dark = model(np.zeros((1, 3, 3, 3))).numpy().argmax()
    standing = np.ones(30, bool)
    reports = []
    found = attacks.autoattack(
        model,
        images,
        labels,
        8,
        ids=np.arange(100, 130),
        report=lambda name, right: reports.append((name, right)),
    )
    right = model(images).numpy().argmax(-1) == labels
    expected = images.copy()
    for (_, arguments), (_, after) in zip(calls, reports):
        at = np.flatnonzero(standing)
        np.testing.assert_array_equal(arguments["images"], images[at])
        np.testing.assert_array_equal(arguments["labels"], labels[at])
        ids = arguments["settings"]["ids"]
        np.testing.assert_array_equal(ids, 100 + at)
        new = images[at].copy()
        new[0] = 0
        expected[at] = new
        standing = standing & right
        standing[at[0]] = labels[at[0]] == dark
        np.testing.assert_array_equal(after, standing)
    assert [name for name, _ in reports] == list(VERSIONS["standard"])
    sizes = [len(arguments["images"]) for _, arguments in calls]
    assert sizes[0] == 30 > sizes[1] >= sizes[2] >= sizes[3] > 0
    np.testing.assert_array_equal(found, expected)


def test_without_early_stops_members_see_every_image(calls, model, data):
    attacks.autoattack(model, *data, 8, early_stop=False)
    assert all(len(arguments["images"]) == 30 for _, arguments in calls)
    assert not any(arguments["early_stop"] for _, arguments in calls)


def test_it_is_its_members_one_after_the_other(model, data):
    images, labels = data
    eps, budget = 36.0, {"steps": 6}
    settings = {"norm": "l2", "seed": 2, "early_stop": True}
    expected, standing, alone = images.copy(), np.ones(30, bool), []
    for function, extra in (
        (attacks.apgd_ce, budget),
        (attacks.apgd_dlr, budget),
        (attacks.fab, budget),
        (attacks.square, {"queries": 20, "rescale": False}),
    ):
        single = function(model, images, labels, eps, **settings, **extra)
        right = model(single).numpy().argmax(-1) == labels
        alone.append(right.sum())
        expected[standing] = single[standing]
        standing &= right
    reports = []
    found = attacks.autoattack(
        model,
        images,
        labels,
        eps,
        steps=6,
        queries=20,
        report=lambda name, right: reports.append(right.sum()),
        **settings,
    )
    right = model(found).numpy().argmax(-1) == labels
    np.testing.assert_array_equal(right, standing)
    np.testing.assert_allclose(found, expected, atol=1e-2)
    np.testing.assert_array_equal(found[:3], images[:3])
    assert right.sum() <= min(alone) and right.sum() == reports[-1]
    assert reports == sorted(reports, reverse=True) and 0 < right.sum() < 27


def test_custom_members_run_in_their_order(calls, model, data):
    members = ("square", "fab_untargeted", "apgd_ce")
    settings = {"version": "custom", "members": members, "steps": 7, "queries": 9}
    attacks.autoattack(model, *data, 8, **settings)
    assert [name for name, _ in calls] == ["square", "fab", "apgd_ce"]
    (_, square), (_, fab), (_, apgd) = calls
    assert square["queries"] == 9 and fab["steps"] == apgd["steps"] == 7
    assert fab["targets"] == 0


def test_half_precision_is_copied_once(model, data, monkeypatch):
    """All members attack one copy in float32."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = keras.Sequential(
            [keras.Input((3, 3, 3)), keras.layers.Flatten(), keras.layers.Dense(5)]
        )
    finally:
        keras.config.set_dtype_policy("float32")
    seen = []

    def member(model, images, *arguments, **settings):
        seen.append(model)
        return np.asarray(images)

    for name, _ in MEMBERS.values():
        replace_attack(monkeypatch, name, member)
    attacks.autoattack(half, *data, 8)
    assert len(seen) == 4 and all(one is seen[0] for one in seen)
    assert seen[0].layers[-1].compute_dtype == "float32"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"version": "best"}, "standard, plus, rand, custom. Received: version='best'"),
        ({"version": "custom"}, "`members` are given for version 'custom'"),
        ({"members": ("fab",)}, "and for no other. Received: version='standard'"),
        ({"version": "custom", "members": ("pgd",)}, "Received: 'pgd'"),
        ({"eps": 300}, "`eps` must be in (0, 255]"),
        ({"steps": 0}, "`steps` must be from 1"),
        ({"norm": "l1"}, "`norm` must be 'linf' or 'l2'"),
    ],
)
def test_wrong_arguments(settings, message, model, data):
    with pytest.raises(ValueError) as caught:
        attacks.autoattack(model, *data, **{"eps": 8} | settings)
    assert message in str(caught.value)


def test_three_classes_are_too_few_for_the_standard_version(dense):
    model = dense((2, 2, 1), (np.ones((4, 3)), np.zeros(3)))
    data = np.zeros((2, 2, 2, 1)), np.zeros(2, int)
    with pytest.raises(ValueError, match="needs 4 classes and the model has 3"):
        attacks.autoattack(model, *data, 8, steps=2, queries=2)
    members = ("apgd_ce", "apgd_dlr_untargeted", "fab", "square")
    settings = {"version": "custom", "members": members, "steps": 2, "queries": 2}
    assert attacks.autoattack(model, *data, 8, **settings).shape == data[0].shape
