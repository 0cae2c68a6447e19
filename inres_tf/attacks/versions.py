"""The versions of AutoAttack, and the attacks that they consist of."""

# Each member: the attack, and its settings besides the steps or queries.
MEMBERS: dict[str, tuple[str, dict]] = {
    "apgd_ce": ("apgd_ce", {}),
    "apgd_dlr": ("apgd_dlr", {}),
    "fab": ("fab", {}),
    "square": ("square", {"rescale": False}),
    "apgd_dlr_untargeted": ("apgd_dlr", {"targets": 0}),
    "fab_untargeted": ("fab", {"targets": 0}),
}
# Each version: its members, in order, and what is added to their settings.
VERSIONS: dict[str, dict[str, dict]] = {
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
    """Checks the name of a version, and of the members of a custom one.

    Raises:
        ValueError: if there is no such version or member, or members are given for
            another version than `"custom"`, or missing for that.
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
    """The number of classes that a version of AutoAttack needs."""
    needs = {"apgd_dlr": 4, "apgd_dlr_untargeted": 3}
    return max(needs.get(name, 2) for name in VERSIONS.get(version, members))
