"""Suggestions for misspelt names of models, attacks, corruptions and datasets."""

import pytest

import zoo
from inres_tf import corruptions, spelling
from inres_tf.attacks import registry
from inres_tf.errors import UserError
from train import models


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("A-B", ["ab", "a_b", "abc"], ["ab", "a_b"]),
        ("pdg", ["fgsm", "pgd"], ["pgd"]),
        ("net18", ["net8", "net110", "net20"], ["net20", "net8"]),
        ("net18v3", ["net18v2", "net20"], ["net18v2", "net20"]),
        ("net0", ["net1"], ["net1"]),
        ("other", ["net1"], []),
        ("", ["net1"], []),
    ],
)
def test_similar_names(name, known, expected):
    assert spelling.similar(name, known) == expected


def test_at_most_as_many_as_asked_for():
    assert spelling.similar("net", ["net1", "net2", "net3"], 2) == ["net1", "net2"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("InResNet20", "in_resnet20"),
        ("in-resnet-20", "in_resnet20"),
        ("in_resnet18", "in_resnet20"),
        ("resnet50", "resnet50v2"),
        ("resnext29_8x64", "resnext29_8x64d"),
    ],
)
def test_models(name, meant):
    with pytest.raises(ValueError, match=f"Did you mean '{meant}'"):
        zoo.get_model(name)
    with pytest.raises(UserError, match=f"got '{name}': did you mean '{meant}'"):
        models.check(name)


def test_models_with_shipped_weights():
    with pytest.raises(ValueError, match=r"shipped\. Did you mean 'cpl_small'"):
        zoo.card("CPL-smal", "mnist")
    with pytest.raises(ValueError, match=r"shipped\. zoo.list_models"):
        zoo.card("vgg", "mnist")


@pytest.mark.parametrize(
    ("name", "meant"),
    [("pdg", "pgd"), ("PGD", "pgd"), ("AutoAttack", "autoattack"), ("apgd", "pgd")],
)
def test_attacks(name, meant):
    with pytest.raises(UserError, match=f"'{name}'; did you mean '{meant}'.* known: f"):
        registry.find(name)


def test_corruptions():
    with pytest.raises(ValueError, match="'Gaussian noise'; did you mean 'gaussian_n"):
        corruptions.expand(["Gaussian noise"])
    with pytest.raises(ValueError, match="'rain'; known: gaussian_noise"):
        corruptions.expand(["rain"])
