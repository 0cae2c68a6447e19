r"""Lists the models of the zoo.

Prints a markdown table or, with --json, one JSON object of `zoo.describe` per line.
FLOPs are those of one image of the given input; a multiply-add counts as two.

    python -m train.list --models='in_resnet*,resnext29_8x64d'
    python -m train.list --shipped
"""

import fnmatch
import json
import re
from collections.abc import Iterable
from typing import Any

from absl import flags

import zoo
from inres_tf import attacks, markdown
from inres_tf.corruptions.generate import CORRUPTIONS
from inres_tf.errors import UserError
from train import cli, models
from zoo import cards

GROUPS = {"models": "models", "output": "shipped json"}

# Columns of single corruptions and attacks, whose mean and worst case are in the table.
_SINGLE = {name.removesuffix("_noise") for name in CORRUPTIONS}
_SINGLE |= set(attacks.registry.ATTACKS) - {"autoattack"}


def define_flags() -> None:
    """Defines the flags of this binary."""
    flags.DEFINE_list("models", ["*"], "Names, or patterns such as in_resnet*.")
    flags.DEFINE_bool("json", False, "Print JSON objects instead of a table.")
    flags.DEFINE_bool(
        "shipped",
        False,
        "Print the accuracies of the shipped weights, in a table for each dataset.",
    )


def select(patterns: Iterable[str]) -> list[str]:
    """Returns the models that match names or patterns.

    Args:
        patterns: names of models, or patterns such as `in_resnet*`.

    Raises:
        UserError: if one of them matches no model.
    """
    patterns = [pattern.strip() for pattern in patterns if pattern.strip()]
    if not patterns:
        raise UserError("--models must name at least one model; --models=* selects all")
    chosen: set[str] = set()
    for pattern in patterns:
        matched = fnmatch.filter(zoo.list_models(), pattern)
        if not matched:
            if any(c in pattern for c in "*?["):
                raise UserError(f"--models={pattern} matches no model of the zoo")
            models.check(pattern, flag="--models")
        chosen.update(matched)
    return sorted(chosen, key=_natural)


def _natural(name):
    """Returns a key that sorts resnet8 before resnet20."""
    return [int(x) if x.isdigit() else x for x in re.split(r"(\d+)", name)]


def row(facts: dict[str, Any]) -> list[str]:
    """Returns the row of the table for a description of `zoo.describe`."""
    height, width, channels = facts["input_shape"]
    return [
        facts["name"],
        f"{facts['parameters']:,}",
        f"{facts['flops'] / 1e9:.2f}",
        f"{facts['damped_blocks']} of {facts['blocks']}",
        facts["damping"],
        f"{height}×{width}×{channels}",
        ", ".join(facts["weights"]) or "-",
    ]


def table(names: Iterable[str]) -> str:
    """Returns a markdown table of models of the zoo."""
    header = ["model", "parameters", "GFLOPs", "damped blocks", "damping", "input"]
    rows = [row(zoo.describe(name)) for name in sorted(names, key=_natural)]
    return markdown.table([*header, "weights"], rows)


def shipped(names: Iterable[str]) -> str:
    """Returns markdown tables of the shipped weights, from their cards.

    Args:
        names: names of models.

    Returns:
        A table for each name of weights, with accuracies in per cent, of most images
        where a network was evaluated on several numbers. Columns that a network was not
        evaluated in are empty.
    """
    names, tables = set(names), []
    by_weights: dict[str, list[dict]] = {}
    for (model, weights), card in cards.shipped_cards().items():
        if model in names:
            by_weights.setdefault(weights, []).append(card)
    for weights, found in sorted(by_weights.items()):
        found.sort(key=lambda card: _natural(card["model"]))
        # Of equal columns, that of most images.
        rows = {
            card["model"]: {
                row["column"]: row
                for row in sorted(card["summary"], key=lambda row: row["images"])
            }
            for card in found
        }
        listed = (row["column"] for card in found for row in card["summary"])
        columns = list(dict.fromkeys(listed))
        columns = [c for c in columns if c.split()[0] not in _SINGLE]
        raised = {card["model"]: ", ".join(card["raised_checks"]) for card in found}
        body = [
            [model, *(_accuracy(row.get(c)) for c in columns), raised[model] or "-"]
            for model, row in rows.items()
        ]
        table = markdown.table(["model", *columns, "checks raised"], body)
        notes = dict.fromkeys(_images(card["dataset"]) for card in found)
        parts = [f'### `weights="{weights}"`', *notes, table]
        tables.append("\n\n".join(parts))
    return "\n\n".join(tables)


def _images(dataset) -> str:
    """A sentence about the images of a card."""
    note = f"; they differ from those published: {dataset['note']}"
    return f"Test images of {dataset['name']}{note if dataset['note'] else ''}."


def _accuracy(row) -> str:
    return markdown.percent([row["accuracy"]]) if row else ""


def main() -> None:
    """Prints the selected models."""
    names = select(flags.FLAGS.models)
    if flags.FLAGS.shipped:
        tables = shipped(names)
        if not tables:
            raise UserError(
                f"no weights of {', '.join(names)} are shipped; without --models, "
                "--shipped lists those that are"
            )
        print(tables)
    elif flags.FLAGS.json:
        print("\n".join(json.dumps(zoo.describe(name)) for name in names))
    else:
        print(table(names))


if __name__ == "__main__":
    define_flags()
    cli.run(main, groups=GROUPS)
