"""AutoAttack: an ensemble of attacks without parameters, one after the other."""

import numpy as np

from inres_tf.attacks.registry import ATTACKS
from inres_tf.attacks.versions import MEMBERS, VERSIONS, check_version
from inres_tf.distribution.classifier import compiled_classifier
from inres_tf.models.precision import in_float32


def autoattack(
    model,
    images,
    labels,
    eps,
    *,
    version="standard",
    members=(),
    steps=100,
    queries=5000,
    norm="linf",
    seed=0,
    early_stop=True,
    batch_size=256,
    ids=None,
    progress="",
    report=None,
):
    """AutoAttack: each member attacks the images that those before it left standing.

    Args:
        model: as in `fgsm`; the members of `standard` need four classes.
        images: as in `fgsm`.
        labels: as in `fgsm`.
        eps: as in `fgsm`.
        version: `"standard"` (APGD-CE, targeted APGD-DLR, targeted FAB, Square),
            `"plus"` (also the untargeted ones, of five restarts), `"rand"` (APGD with
            20 gradients a step, for networks that are random) or `"custom"`.
        members: names of a custom version, of `MEMBERS`.
        steps: steps of every member but Square.
        queries: queries of Square.
        norm: as in `fgsm`.
        seed: as in `fgsm`.
        early_stop: as in `fgsm`; without it every member attacks every image with all
            its steps.
        batch_size: as in `fgsm`.
        ids: as in `fgsm`.
        progress: as in `fgsm`.
        report: called after each member with its name and whether each image is still
            classified rightly, (number,).

    Returns:
        Adversarial pixels, float32, of the shape of `images`: for each image that fell
        the example of the first member that it fell to, and else what the last found.

    Raises:
        As `fgsm`, and ValueError for an unknown version or member.

    Reference:
        Croce, Hein: Reliable Evaluation of Adversarial Robustness with an Ensemble of
        Diverse Parameter-free Attacks, ICML 2020, section 6; settings as published.
    """
    check_version(version, members)
    chosen = VERSIONS.get(version) or {name: {} for name in members}
    images, labels = np.asarray(images), np.asarray(labels)
    found = images.astype(np.float32)
    ids = np.arange(len(images)) if ids is None else np.asarray(ids)
    standing = np.ones(len(images), bool)
    model = in_float32(model)  # one copy, compiled once, for all members
    for name, extra in chosen.items():
        attack, settings = MEMBERS[name]
        budget = {"queries": queries} if name == "square" else {"steps": steps}
        at = np.flatnonzero(standing) if early_stop else np.arange(len(images))
        new = ATTACKS[attack](
            model,
            images[at],
            labels[at],
            eps,
            norm=norm,
            seed=seed,
            early_stop=early_stop,
            batch_size=batch_size,
            ids=ids[at],
            progress=progress and f"{progress} {name}",
            **settings | budget | extra,
        )
        right = compiled_classifier(model, batch_size).correct(new, labels[at])
        replaced = standing[at]
        found[at[replaced]] = new[replaced]
        standing[at] &= right
        if report:
            report(name, standing.copy())
    return found
