"""Attacks on classifiers of pixels.

Every attack takes and gives pixels in [0, 255], with `eps` and `step_size` in the same
units (1/255 of the pixel range), and attacks the true labels in the L-infinity or the
L2 ball. Models are attacked through their logits, in float32 and evaluation mode; no
variable changes. Under the strategy in scope all devices share each batch.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from inres_tf.attacks.apgd import apgd_ce, apgd_dlr
from inres_tf.attacks.autoattack import autoattack
from inres_tf.attacks.cw import cw_l2
from inres_tf.attacks.fab import fab
from inres_tf.attacks.gradient import ascend, fgsm, ifgsm, mim, pgd
from inres_tf.attacks.precision import in_float32
from inres_tf.attacks.registry import ATTACKS, Attack
from inres_tf.attacks.search import AttackError, NotANumberError, check
from inres_tf.attacks.spsa import spsa
from inres_tf.attacks.square import square

__all__ = [
    "fgsm",
    "ifgsm",
    "pgd",
    "mim",
    "cw_l2",
    "spsa",
    "apgd_ce",
    "apgd_dlr",
    "fab",
    "square",
    "autoattack",
    "ATTACKS",
    "Attack",
    "AttackError",
    "NotANumberError",
    "ascend",
    "check",
    "in_float32",
]
