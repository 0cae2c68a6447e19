"""Settings as frozen dataclasses whose fields carry the help text of their flag."""

import dataclasses


def setting(default, help: str, choices=None):
    """A dataclass field that a binary offers as a flag.

    Args:
        default: the flag's default.
        help: the flag's help text.
        choices: the values accepted, where they are few.
    """
    return dataclasses.field(
        default=default, metadata={"help": help, "choices": choices}
    )
