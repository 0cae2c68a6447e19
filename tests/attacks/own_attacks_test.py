"""Attacks from elsewhere: a user's own, by `"MODULE:FUNCTION"`, and cleverhans'."""

import importlib
import re
import sys

import keras
import numpy as np
import pytest

from inres_tf import attacks
from inres_tf.attacks import registry
from inres_tf.errors import UserError
from inres_tf.evaluation import EvaluationConfig, evaluate, results

SOURCE = """
import numpy as np

from inres_tf import attacks

calls = []
number = 3


def plain(model, images, labels, eps):
    calls.append({})
    return np.clip(images + eps, 0, 255)


def seeded(model, images, labels, eps, *, norm, seed=0):
    calls.append({"norm": norm, "seed": seed})
    return np.clip(images + eps, 0, 255)


def open_ended(model, images, labels, eps, *, norm, seed=0, **settings):
    calls.append({"norm": norm, "seed": seed} | settings)
    return np.clip(images + eps, 0, 255)


def my_attack(model, images, labels, eps, *, norm, seed, ids):
    settings = {"norm": norm, "seed": seed, "ids": list(ids)}
    calls.append(settings)
    return attacks.pgd(model, images, labels, eps, steps=2, step_size=eps, **settings)


my_settings = attacks.Attack(
    "my own name",
    settings=lambda options, eps: {"norm": options.norm, "steps": 3},
    norms=("linf",),
    gradients=False,
    function=open_ended,
)


def outside(model, images, labels, eps):
    images = images.astype(np.float32)
    return np.where(images > 128, images - 2 * eps, images + 2 * eps)


def out_of_range(model, images, labels, eps):
    return images.astype(np.float32) - eps


def non_finite(model, images, labels, eps):
    return np.full(images.shape, np.nan)


def too_few(model, images, labels, eps):
    return images[1:]


def without_channels(model, images, labels, eps):
    return images[..., 0]
"""


@pytest.fixture
def my_module(tmp_path, monkeypatch):
    """A module of a user's own attacks, on the path."""
    (tmp_path / "my_module.py").write_text(SOURCE)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    yield importlib.import_module("my_module")
    del sys.modules["my_module"]


@pytest.fixture(scope="module")
def few(digits):
    return digits.test.take(slice(37))


SETTINGS = {"norm": "l2", "seed": 5, "batch_size": 7, "ids": [3, 4], "progress": ""}


@pytest.mark.parametrize(
    ("name", "received"),
    [
        ("plain", {}),
        ("seeded", {"norm": "l2", "seed": 5}),
        ("open_ended", SETTINGS),
    ],
)
def test_functions_receive_the_arguments_that_they_take(name, received, my_module):
    attack = registry.find(f"my_module:{name}")
    assert attack.name == f"my_module:{name}"
    assert attack.norms == ("linf", "l2") and attack.gradients
    config = EvaluationConfig(norm="l2")
    assert attack.settings(config, 8.0) == {"norm": "l2"}
    assert attack.classes(config) == 2
    images = np.full((2, 4, 4, 1), 100.0)
    adversarial = attack(None, images, np.zeros(2, int), 8.0, **SETTINGS)
    np.testing.assert_array_equal(adversarial, images + 8)
    assert my_module.calls == [received]


def test_attack_objects_keep_their_properties(my_module):
    attack = registry.find("my_module:my_settings")
    assert attack.name == "my_module:my_settings"
    assert attack.norms == ("linf",) and not attack.gradients
    settings = attack.settings(EvaluationConfig(), 8.0)
    assert settings == {"norm": "linf", "steps": 3}
    assert results.attack_row(attack.name, 8.0, attack, settings)["steps"] == 3
    function = registry.find("inres_tf.attacks:fgsm")  # which does not say
    assert results.attack_row(function.name, 8.0, function, {})["steps"] is None
    images = np.full((2, 4, 4, 1), 100.0)
    adversarial = attack(None, images, np.zeros(2, int), 8.0, **settings)
    np.testing.assert_array_equal(adversarial, images + 8)
    assert my_module.calls == [{"norm": "linf", "seed": 0, "steps": 3}]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pdg", "--attacks does not know 'pdg'; known: fgsm, ifgsm, pgd, .*FUNCTION"),
        ("no_module:attack", "--attacks=no_module:attack: No module named 'no_module'"),
        ("my_module:none", "--attacks=my_module:none: .*no attribute 'none'"),
        ("my_module:", "--attacks=my_module:: .* must be importable and define FUNCT"),
        (":attack", "--attacks=:attack: .*must be importable and define attack"),
        ("./my.py:attack", r"--attacks=./my.py:attack: .*must be importable and"),
        ("my_module:number", "number must be a function or an Attack; got int"),
    ],
)
def test_unknown_attacks_are_refused(name, message, my_module):
    with pytest.raises(UserError, match=message):
        registry.find(name)
    with pytest.raises(UserError, match=message):
        EvaluationConfig(attacks=(name,))


def config_of(name, **settings):
    settings = {"eps": (16.0,), "corruptions": (), "check_examples": 8} | settings
    return EvaluationConfig(attacks=(f"my_module:{name}",), **settings)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 16.0), ("l2", 100.0)])
def test_accuracy_of_an_evaluation_is_that_of_the_attack(
    norm, eps, trained, few, my_module
):
    config = config_of("my_attack", norm=norm, eps=(eps,), seed=3, batch_size=16)
    result = evaluate(trained, few, config, progress=False)
    assert my_module.calls[0] == {"norm": norm, "seed": 3, "ids": list(range(37))}
    adversarial = my_module.my_attack(
        trained, few.images, few.labels, eps, norm=norm, seed=3, ids=np.arange(37)
    )
    correct = trained(adversarial).numpy().argmax(-1) == few.labels
    (row,) = result["attacks"]
    assert (row["name"], row["norm"]) == ("my_module:my_attack", norm)
    assert (row["eps"], row["accuracy"]) == (eps, correct.mean())
    assert 0 < row["accuracy"] < result["clean"]["accuracy"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("outside", "lies 32/255 from its image, outside the ball of radius 16/255"),
        ("out_of_range", "outside the pixel range"),
        ("non_finite", "non-finite"),
        ("too_few", "shape .*(37, 8, 8, 1).*(36, 8, 8, 1)"),
        ("without_channels", "shape .*(37, 8, 8, 1).*(37, 8, 8)"),
    ],
)
def test_invalid_examples_are_refused(name, message, trained, few, my_module):
    message = re.escape(message).replace(r"\.\*", ".*")
    with pytest.raises(UserError, match=f"--attacks=my_module:{name}.*{message}"):
        evaluate(trained, few, config_of(name), progress=False)


NORMS = pytest.mark.parametrize(
    ("norm", "eps", "order"), [("linf", 16.0, np.inf), ("l2", 100.0, 2)]
)


@NORMS
def test_cleverhans_fgsm_matches_fgsm(norm, eps, order, trained, few):
    data, settings = (trained, few.images, few.labels, eps), {"norm": norm}
    theirs = attacks.cleverhans_fgsm(*data, **settings, batch_size=16)
    ours = attacks.fgsm(*data, **settings, batch_size=16)
    assert np.abs(ours - few.images).max() > 8
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-4)


@NORMS
def test_cleverhans_mim_matches_mim(norm, eps, order, trained, few):
    data = trained, few.images, few.labels, eps
    settings = {"norm": norm, "steps": 5, "step_size": eps / 4, "batch_size": 16}
    theirs = attacks.cleverhans_mim(*data, **settings)
    ours = attacks.mim(*data, **settings)
    assert np.abs(ours - few.images).max() > 8
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-4)


@NORMS
def test_cleverhans_pgd_starts_at_random_points_of_the_ball(
    norm, eps, order, trained, few
):
    def run(seed):
        settings = {"norm": norm, "steps": 3, "step_size": eps / 4, "batch_size": 16}
        data = trained, few.images, few.labels, eps
        return attacks.cleverhans_pgd(*data, seed=seed, **settings)

    adversarial = run(seed=1)
    assert adversarial.shape == few.images.shape and adversarial.dtype == np.float32
    change = (adversarial - few.images).reshape(37, -1)
    distance = np.linalg.norm(change, order, axis=1).max()
    assert 0.8 * eps < distance <= eps * (1 + 1e-5) + 1e-3
    assert 0 <= adversarial.min() and adversarial.max() <= 255
    np.testing.assert_array_equal(run(seed=1), adversarial)
    assert np.abs(run(seed=2) - adversarial).max() > 1


CLEVERHANS = ["cleverhans_fgsm", "cleverhans_pgd", "cleverhans_mim"]


@pytest.mark.parametrize("name", CLEVERHANS)
def test_invalid_arguments_of_cleverhans_attacks(name, trained, few):
    attack = getattr(attacks, name)
    with pytest.raises(ValueError, match="`norm` must be 'linf' or 'l2'"):
        attack(trained, few.images, few.labels, 8, norm="l1")
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10, "relu")]
    )
    with pytest.raises(ValueError, match="logits of .* cannot be found"):
        attack(model, few.images, few.labels, 8)
