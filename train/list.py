r"""Lists the models of the zoo.

python -m train.list --models='in_resnet*,resnext29_8x64d'

A markdown table, or with --json one JSON object of `zoo.describe` a line. FLOPs are
those of one image of the given input, a multiply-add counted as two.
"""

import fnmatch
import json
import re

from absl import flags

import zoo
from inres_tf import markdown
from inres_tf.errors import UserError
from train import cli, models


def define_flags():
    """Defines the flags of this binary."""
    flags.DEFINE_list("models", ["*"], "Names, or patterns such as in_resnet*.")
    flags.DEFINE_bool("json", False, "Print JSON objects, not a table.")


def select(patterns) -> list[str]:
    """The models that names or patterns mean.

    Raises:
        UserError: if one of them means none.
    """
    patterns = [pattern.strip() for pattern in patterns if pattern.strip()]
    if not patterns:
        raise UserError("--models names none; --models=* are all")
    chosen = set()
    for pattern in patterns:
        matched = fnmatch.filter(zoo.list_models(), pattern)
        if not matched:
            if any(c in pattern for c in "*?["):
                raise UserError(f"no model of the zoo matches --models={pattern}")
            models.check(pattern, flag="--models")
        chosen.update(matched)
    return sorted(chosen, key=_natural)


def _natural(name):
    """A key that sorts resnet8 before resnet20."""
    return [int(x) if x.isdigit() else x for x in re.split(r"(\d+)", name)]


def row(facts: dict) -> list[str]:
    """A model's row of the table."""
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


def table(names) -> str:
    """A markdown table of models of the zoo."""
    header = ["model", "parameters", "GFLOPs", "damped blocks", "damping", "input"]
    rows = [row(zoo.describe(name)) for name in sorted(names, key=_natural)]
    return markdown.table([*header, "weights"], rows)


def main():
    """Prints what the flags say."""
    names = select(flags.FLAGS.models)
    if flags.FLAGS.json:
        print("\n".join(json.dumps(zoo.describe(name)) for name in names))
    else:
        print(table(names))


if __name__ == "__main__":
    define_flags()
    cli.run(main)
