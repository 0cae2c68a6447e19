import dataclasses

import pytest

from inres_tf.errors import UserError
from inres_tf.training.objectives.config import ObjectiveConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"objective": "mixup"},
            "--objective must be one of clean, pgd, fgsm, trades, noise, margin; got "
            "'mixup'",
        ),
        ({"adversary_eps": 0}, r"--adversary_eps must be in \(0, 255\]; got 0"),
        ({"adversary_eps": float("nan")}, "--adversary_eps .* got nan"),
        ({"adversary_steps": 0}, "--adversary_steps must be from 1 to 1000000; got 0"),
        (
            {"adversary_step_size": 256},
            r"--adversary_step_size must be in \(0, 255\]; got 256",
        ),
        ({"trades_beta": -1}, "--trades_beta must be at least 0; got -1"),
        ({"trades_beta": float("inf")}, "--trades_beta .* got inf"),
        ({"noise_std": 0}, r"--noise_std must be in \(0, 255\]; got 0"),
        ({"margin_offset": -1}, "--margin_offset must be at least 0; got -1"),
        ({"margin_temperature": 0}, "--margin_temperature must be positive; got 0"),
        ({"margin_annealing": -1}, "--margin_annealing must be at least 0; got -1"),
        ({"label_smoothing": 1}, r"--label_smoothing must be in \[0, 1\); got 1"),
    ],
)
def test_invalid_settings_are_rejected(settings, message):
    with pytest.raises(UserError, match=message):
        ObjectiveConfig(**settings)


def test_defaults_are_those_of_the_papers():
    """Of Madry et al. for CIFAR-10, of TRADES, and the noise of CIFAR-10-C."""
    assert dataclasses.asdict(ObjectiveConfig()) == {
        "objective": "clean",
        "adversary_eps": 8.0,
        "adversary_steps": 10,
        "adversary_step_size": 2.0,
        "trades_beta": 6.0,
        "noise_std": 0.1 * 255,
        "margin_offset": 1.0,
        "margin_temperature": 1.0,
        "margin_annealing": 0.0,
        "label_smoothing": 0.0,
    }
