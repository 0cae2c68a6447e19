"""Help of the binaries: flags under headings, the most used first."""

import argparse
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Collection, Mapping

from absl import flags

from inres_tf import spelling
from train import programs

# Headings of a program, each with the names of its flags.
Groups = Mapping[str, str]

_WIDEST = 100  # columns: longer lines are hard to read


class HelpFlag(flags.BooleanFlag):
    """A flag that prints a text and ends the program with exit code 0.

    Args:
        name: name of the flag; one of absl's is replaced.
        help: its own help text.
        text: function that returns the text.
        short_name: another name of the flag.
    """

    def __init__(
        self,
        name: str,
        help: str,
        text: Callable[[], str],
        short_name: str | None = None,
    ) -> None:
        super().__init__(name, False, help, short_name, allow_override=True)
        self._text = text

    def parse(self, arg: str | bool) -> None:
        """Prints the text, unless the flag is set to false."""
        if not self._parse(arg):
            return
        try:
            print(self._text(), flush=True)
        except BrokenPipeError:  # as of `| head`, which has read what it wants
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def own_flags() -> dict[str, flags.Flag]:
    """Returns the flags of the running program by name, without those of libraries."""
    defined = flags.FLAGS.flags_by_module_dict()
    # absl registers those of the main module under its path.
    own = [*defined.get("train.cli", ()), *defined.get(sys.argv[0], ())]
    return {flag.name: flag for flag in own if not isinstance(flag, HelpFlag)}


def text(program: str, document: str, groups: Groups, everything: bool = False) -> str:
    """Returns the help of a program.

    Args:
        program: its module, such as `train.evaluate`.
        document: its docstring: paragraphs, and indented examples.
        groups: headings, with the names of the flags below them in order. Flags that
            the program does not have are skipped; flags without a heading come last.
        everything: whether to add the flags of absl.
    """
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    note = (
        "--NAME and --noNAME switch a flag on and off; list items are separated by "
        f"commas. The command {programs.command_of(program)} does the same, and also "
        "works in a folder whose own train.py hides python -m train. "
    )
    note += "" if everything else "--helpfull adds the flags of the library absl."
    parser = argparse.ArgumentParser(
        usage=argparse.SUPPRESS,
        description=_description(document, width),
        epilog=textwrap.fill(note, width),
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(
            prog, max_help_position=28, width=width
        ),
        add_help=False,
    )
    left = own_flags()
    headings = {
        heading: [left.pop(name) for name in names.split() if name in left]
        for heading, names in groups.items()
    }
    headings["other"] = list(left.values())
    if everything:
        headings["absl"] = [
            flag
            for module, defined in sorted(flags.FLAGS.flags_by_module_dict().items())
            if module.startswith("absl")
            for flag in defined
            if not isinstance(flag, HelpFlag)
        ]
    for heading, listed in headings.items():
        group = parser.add_argument_group(heading)
        for flag in listed:
            group.add_argument(
                f"--{'[no]' if flag.boolean else ''}{flag.name}:",
                action="store_true",
                help=_explained(flag).replace("%", "%%"),
            )
    return parser.format_help().strip()


def near(name: str, known: Collection[str]) -> list[str]:
    """Returns the flags that an unknown one may stand for, the likeliest first.

    Args:
        name: the unknown flag.
        known: names of the flags that exist.
    """
    wanted = name.lower().replace("-", "_")
    shortened = [
        flag
        for flag in known
        if wanted in (flag.replace("_", ""), "".join(w[0] for w in flag.split("_")))
    ]
    parts = [flag for flag in known if flag in wanted or wanted in flag]
    close = spelling.similar(wanted, known)
    return list(dict.fromkeys([*shortened, *close, *sorted(parts, key=len)]))[:3]


def _description(document, width):
    """A docstring with its paragraphs wrapped and its examples as they are."""
    parts = []
    for paragraph in (document or "").strip().split("\n\n"):
        if paragraph.startswith(" "):
            parts.append(
                "examples:\n" + textwrap.indent(textwrap.dedent(paragraph), "  ")
            )
        else:
            parts.append(textwrap.fill(" ".join(paragraph.split()), width))
    return "\n\n".join(parts)


def _explained(flag):
    """The help of a flag with what its text does not say: choices and default."""
    words = re.sub(r"^<[^>]*>: ", "", " ".join(str(flag.help).split()))  # of an enum
    if not re.search(r"[.!?]$", words):
        words += "."
    choices = getattr(flag.parser, "enum_values", ())
    if not all(re.search(rf"\b{re.escape(value)}\b", words) for value in choices):
        words += f" One of {', '.join(choices)}."
    default = flag.default
    if isinstance(default, bool):
        default = "on" if default else "off"
    elif isinstance(default, float):
        default = f"{default:g}"
    elif isinstance(default, list):
        is_named = len(default) > 5 and ", ".join(default) in words
        default = "all" if is_named else re.sub(r"\.0\b", "", ",".join(default))
    return words if default in (None, "") else f"{words} Default: {default}."
