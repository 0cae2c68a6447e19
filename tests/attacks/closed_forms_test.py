"""Every attack on a network with one hidden unit, whose worst case is known.

Its logits are u·h + d with h = relu(w·x + b). The class closest to class 0 is class 1,
which begins where h falls to half of d_1: a hyperplane, whose distance is the gap
divided by the dual norm of w.
"""

import keras
import numpy as np
import pytest

from inres_tf import attacks

WEIGHTS = np.array([1.0, -2.0, 0.5, 1.5]) / 20
GAP = 8.0 - 2.0
DISTANCE = {
    "linf": GAP / np.abs(WEIGHTS).sum(),
    "l2": GAP / np.linalg.norm(WEIGHTS),
}
# Settings, and by which share of the distance eps must exceed it for success.
ATTACKS = {
    "fgsm": ({}, 0.001),
    "ifgsm": ({"steps": 40, "step_size": 12.0}, 0.001),
    "pgd": ({"steps": 40, "step_size": 12.0}, 0.001),
    "mim": ({"steps": 40, "step_size": 12.0}, 0.001),
    "apgd_ce": ({"steps": 25}, 0.001),
    "apgd_dlr": ({"steps": 25}, 0.001),
    "fab": ({"steps": 10}, 0.06),  # it overshoots the boundary by a twentieth
    "square": ({"queries": 300}, 0.03),
    "spsa": ({"steps": 60, "samples": 8}, 0.01),
    "cw_l2": ({"steps": 150, "searches": 7, "learning_rate": 0.02}, 0.03),
    "cleverhans_fgsm": ({}, 0.001),
    "cleverhans_pgd": ({"steps": 40, "step_size": 12.0}, 0.001),
    "cleverhans_mim": ({"steps": 40, "step_size": 12.0}, 0.001),
    "autoattack": ({"steps": 20, "queries": 5}, 0.001),
}


@pytest.fixture(scope="module")
def model():
    network = keras.Sequential(
        [
            keras.Input((2, 2, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(1, "relu"),
            keras.layers.Dense(4),
        ]
    )
    hidden, last = network.layers[-2:]
    hidden.set_weights([WEIGHTS[:, None], np.array([8.0 - 128 * WEIGHTS.sum()])])
    last.set_weights(
        [np.array([[1.0, -1.0, 0.2, -0.5]]), np.array([0.0, 4.0, -5.0, -5.0])]
    )
    return network


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        (name, norm)
        for name, attack in attacks.ATTACKS.items()
        for norm in attack.norms
        # Patches that cover a part of the image move in few directions.
        if (name, norm) != ("square", "l2")
    ],
)
def test_attacks_succeed_only_beyond_the_distance_of_the_boundary(name, norm, model):
    images, labels = np.full((2, 2, 2, 1), 128.0), np.zeros(2, int)
    settings, share = ATTACKS[name]
    if (name, norm) == ("spsa", "l2"):
        share = 0.1  # Adam's steps are like signs, which gain less in the L2 norm
    if name != "cw_l2":
        settings = settings | {"norm": norm}
    for factor, success in ((1 - 1e-3, False), (1 + share, True)):
        eps = factor * DISTANCE[norm]
        adversarial = getattr(attacks, name)(model, images, labels, eps, **settings)
        misclassified = model.predict(adversarial, verbose=0).argmax(-1) != labels
        assert misclassified.tolist() == [success] * 2, factor
