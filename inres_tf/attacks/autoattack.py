"""AutoAttack: an ensemble of attacks without parameters, one after the other."""

import numpy as np

from inres_tf.attacks.apgd import apgd_ce, apgd_dlr
from inres_tf.attacks.fab import fab
from inres_tf.attacks.precision import in_float32
from inres_tf.attacks.search import classifier_of
from inres_tf.attacks.square import square

# Each member: the attack, and its settings beside the steps or queries.
MEMBERS = {
    "apgd_ce": (apgd_ce, {}),
    "apgd_dlr": (apgd_dlr, {}),
    "fab": (fab, {}),
    "square": (square, {"rescale": False}),
    "apgd_dlr_untargeted": (apgd_dlr, {"targets": 0}),
    "fab_untargeted": (fab, {"targets": 0}),
}
# Each version: its members, in order, and what is added to their settings.
VERSIONS = {
    "standard": {"apgd_ce": {}, "apgd_dlr": {}, "fab": {}, "square": {}},
    "plus": {
        "apgd_ce": {"restarts": 5},
        "apgd_dlr_untargeted": {"restarts": 5},
        "fab_untargeted": {"restarts": 5},
        "square": {},
        "apgd_dlr": {},
        "fab": {},
    },
    "rand": {"apgd_ce": {"samples": 20}, "apgd_dlr_untargeted": {"samples": 20}},
}


def check_version(version: str, members=()) -> None:
    """Checks the name of a version and of the members of a custom one.

    Raises:
        ValueError: if there is no such version or member, or members are given or
            lacking where they should not.
    """
    if version not in (*VERSIONS, "custom"):
        raise ValueError(
            f"`version` must be one of {', '.join((*VERSIONS, 'custom'))}. Received: "
            f"version={version!r}"
        )
    if (version == "custom") != bool(members):
        raise ValueError(
            "`members` are given for version 'custom' and for no other. Received: "
            f"version={version!r}, members={members!r}"
        )
    if len(set(members)) < len(members):
        raise ValueError(f"`members` must each be named once. Received: {members!r}")
    for name in members:
        if name not in MEMBERS:
            raise ValueError(
                f"`members` must be of {', '.join(MEMBERS)}. Received: {name!r}"
            )


def least_classes(version: str, members=()) -> int:
    """Number of classes that a version of AutoAttack needs."""
    needs = {"apgd_dlr": 4, "apgd_dlr_untargeted": 3}
    return max(needs.get(name, 2) for name in VERSIONS.get(version, members))


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
        function, settings = MEMBERS[name]
        budget = {"queries": queries} if name == "square" else {"steps": steps}
        at = np.flatnonzero(standing) if early_stop else np.arange(len(images))
        new = function(
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
        right = classifier_of(model, batch_size).correct(new, labels[at])
        replaced = standing[at]
        found[at[replaced]] = new[replaced]
        standing[at] &= right
        if report:
            report(name, standing.copy())
    return found
