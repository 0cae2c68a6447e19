"""The versions of AutoAttack, and the attacks that they consist of."""

from collections.abc import Sequence
from typing import Any

# The attack of each member, and its settings other than steps and queries.
MEMBERS: dict[str, tuple[str, dict[str, Any]]] = {
    "apgd_ce": ("apgd_ce", {}),
    "apgd_dlr": ("apgd_dlr", {}),
    "fab": ("fab", {}),
    "square": ("square", {"rescale": False}),
    "apgd_dlr_untargeted": ("apgd_dlr", {"targets": 0}),
    "fab_untargeted": ("fab", {"targets": 0}),
}
# The members of each version, in order, and further settings of theirs.
VERSIONS: dict[str, dict[str, dict[str, Any]]] = {
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


def check_version(version: str, members: Sequence[str] = ()) -> None:
    """Checks the name of a version, and those of the members of a custom one.

    Args:
        version: a key of `VERSIONS`, or `"custom"`.
        members: the members of a custom version, keys of `MEMBERS`.

    Raises:
        ValueError: if the version or a member is unknown, members are missing for
            `"custom"` or given for another version, or one is repeated.
    """
    if version not in (*VERSIONS, "custom"):
        raise ValueError(
            f"`version` must be one of {', '.join((*VERSIONS, 'custom'))}. Received: "
            f"version={version!r}"
        )
    if (version == "custom") != bool(members):
        raise ValueError(
            "`members` must be given for version 'custom' and for no other. Received: "
            f"version={version!r}, members={members!r}"
        )
    if len(set(members)) < len(members):
        raise ValueError(f"`members` must not repeat. Received: members={members!r}")
    for name in members:
        if name not in MEMBERS:
            raise ValueError(
                f"`members` must be among {', '.join(MEMBERS)}. Received: {name!r}"
            )


def passes_of(version: str) -> int:
    """Returns by how many passes of the network a version judges its examples.

    An image counts as correct if more than half of them are. They are as many as the
    gradients that are averaged at every point: 20 for `"rand"`, and otherwise 1.

    Args:
        version: a key of `VERSIONS`, or `"custom"`.
    """
    settings = VERSIONS.get(version, {}).values()
    return max((extra.get("samples", 1) for extra in settings), default=1)


def least_classes(version: str, members: Sequence[str] = ()) -> int:
    """Returns the number of classes that a version of AutoAttack needs.

    Args:
        version: a key of `VERSIONS`, or `"custom"`.
        members: the members of a custom version.
    """
    needs = {"apgd_dlr": 4, "apgd_dlr_untargeted": 3}
    return max(needs.get(name, 2) for name in VERSIONS.get(version, members))
