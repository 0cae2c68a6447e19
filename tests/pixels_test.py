"""Distances and images in the wrong unit are warned of."""

import warnings

import numpy as np
import pytest

from inres_tf import analysis, attacks, data, evaluation, pixels, verifier
from inres_tf.training.objectives import ObjectiveConfig
from inres_tf.training.objectives.registry import make_objective


def test_a_distance_may_name_its_unit():
    assert pixels.parse("8/255") == pixels.parse("8") == pixels.parse(" 8 / 255 ") == 8
    for text in ("1/4", "8/", "8/255/255", "a", "/255"):
        with pytest.raises(ValueError):
            pixels.parse(text)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: evaluation.EvaluationConfig(eps=(8.0, 0.031)), "eps=0.031 .* 7.91"),
        (lambda: evaluation.EvaluationConfig(step_size=2 / 255), "step_size=.* pass 2"),
        (lambda: evaluation.EvaluationConfig(certify_radii=(0.25,)), "certify_radii"),
        (lambda: evaluation.EvaluationConfig(smoothing_sigma=0.25), "smoothing_sigma"),
        (lambda: ObjectiveConfig(adversary_eps=8 / 255), "adversary_eps=.* pass 8"),
        (lambda: ObjectiveConfig(adversary_step_size=2 / 255), "adversary_step_size"),
        (lambda: ObjectiveConfig(noise_std=0.1), "noise_std=0.1 is 0.1/255 of the"),
        (lambda: analysis.AnalysisConfig(eps=8 / 255), "eps=.* pass 8"),
        (lambda: verifier.VerifierConfig(radii=(0.14,)), "radii=0.14"),
    ],
)
def test_settings_in_the_unit_of_0_to_1_are_warned_of(make, message):
    with pytest.warns(pixels.PixelWarning, match=message):
        make()


def test_usual_settings_are_not_warned_of():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        evaluation.EvaluationConfig(eps=(0.5, 255.0), step_size=0.1)
        ObjectiveConfig(adversary_eps=0.5, adversary_step_size=0.1)
    assert caught == []


@pytest.mark.parametrize("name", ["pgd", "cleverhans_pgd"])
def test_attacks_on_images_in_0_to_1_are_warned_of(name, trained, digits):
    images, labels = digits.test.images[:2], digits.test.labels[:2]
    attack = getattr(attacks, name)
    with pytest.warns(pixels.PixelWarning) as caught:
        attack(trained, images / 255, labels, eps=8 / 255, steps=1, step_size=0.01)
    found = sorted(str(warning.message) for warning in caught)
    assert len(found) == 2
    assert found[0].startswith("eps=0.0314 is 0.0314/255 of the pixel range; if")
    assert found[0].endswith("pass 8")
    assert found[1].startswith("no pixel exceeds 1: images must be in [0, 255]")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attack(trained, images, labels, eps=0.5, steps=1, step_size=0.5)
        attack(trained, 0 * images, labels, eps=8, steps=1)  # black in either unit


def test_evaluations_of_images_in_0_to_1_are_warned_of(trained, digits):
    config = evaluation.EvaluationConfig(attacks=(), corruptions=(), check_examples=2)
    images = data.Images(
        np.float32(digits.test.images[:2] / 255), digits.test.labels[:2]
    )
    with pytest.warns(pixels.PixelWarning, match="no pixel exceeds 1"):
        evaluation.evaluate(trained, images, config, progress=False)


def test_binaries_warn_once_in_one_line(binary, saved):
    quick = ["--corruptions=none", "--num_examples=2", "--check_examples=2"]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        code, out, err = binary(
            "evaluate", f"--checkpoint={saved}", "--attacks=fgsm", "--eps=0.031", *quick
        )
    assert code == 0 and "ε = 0.031/255" in out
    warned = [line for line in err.splitlines() if "%|" not in line]
    assert warned == [
        "train.evaluate: warning: eps=0.031 is 0.031/255 of the pixel range; if you "
        "mean 0.031 of the range, pass 7.91"
    ]


def test_what_was_warned_of_in_settings_is_not_repeated(digits, trained):
    """In the attacks of training and beside certificates."""
    with pytest.warns(pixels.PixelWarning):
        config = ObjectiveConfig(objective="fgsm", adversary_eps=0.031)
    objective = make_objective(config)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        objective.metrics(trained, digits.train.images[:2], digits.train.labels[:2])


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        (
            ("evaluate", "--checkpoint=none", "--eps=8/1"),
            "--eps must be numbers separated by commas, such as 2,8: '8/1' must be",
        ),
        (("train", "--adversary_eps=8/1"), "--adversary_eps=8/1: '8/1' must be"),
    ],
)
def test_other_fractions_are_refused(arguments, flag, binary):
    code, _, err = binary(*arguments)
    assert code in (1, 2) and f"{flag} a number in 1/255, such as 8 or 8/255" in err


def test_flags_take_the_unit(binary, saved, tmp_path, monkeypatch):
    configs = []
    monkeypatch.setattr(
        "inres_tf.evaluation.evaluate_model",
        lambda model, dataset, config, **_: configs.append(config) or 1 / 0,
    )
    with pytest.raises(ZeroDivisionError):
        binary(
            "evaluate",
            f"--checkpoint={saved}",
            "--eps=2/255,8",
            "--step_size=1/255",
            "--norm=L2",
            "--protocol=Paper",
        )
    (config,) = configs
    assert (config.eps, config.step_size, config.norm) == ((2.0, 8.0), 1.0, "l2")
    assert config.protocol == "paper"
