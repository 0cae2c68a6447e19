"""Writes the tables of the documents that the zoo and the cards determine.

python -m train._tables
"""

import json
import pathlib
import re
from typing import Any

import zoo
from inres_tf import markdown
from inres_tf.evaluation import results
from inres_tf.files import write_text
from inres_tf.reporting import leaderboard
from train import compare
from train import list as listing

DOCS = pathlib.Path(__file__).parents[1] / "docs"


def texts() -> dict[pathlib.Path, str]:
    """Returns the documents with new tables, by path.

    In `zoo.md` the table of models is replaced, in `weights.md` all sections of the
    third level, in `result_files.md` those of the second; the leaderboard is written as
    a whole.
    """
    schema = json.loads(results.SCHEMA.read_text(encoding="utf-8"))
    names = zoo.list_models()
    rows = leaderboard.rank(compare.shipped())
    parts = {
        "zoo.md": (r"^\| model .*?(?=\n[^|]|\Z)", listing.table(names)),
        "weights.md": (r"^### .*\Z", listing.shipped(names)),
        "result_files.md": (r"^## .*\Z", keys(schema)),
    }
    written = {}
    for name, (pattern, table) in parts.items():
        text = (DOCS / name).read_text(encoding="utf-8")
        new = re.sub(pattern, lambda _, t=table: t, text, flags=re.S | re.M)  # type: ignore[misc]
        written[DOCS / name] = new.rstrip("\n") + "\n"
    written[DOCS / "leaderboard.md"] = leaderboard.markdown(rows)
    written[DOCS / "leaderboard.html"] = leaderboard.page(rows)
    return written


def keys(schema: dict[str, Any]) -> str:
    """Returns tables of the keys of result files, one per object, from their schema."""
    objects = {"The result": schema} | {
        f"An {name} in `attacks`": part for name, part in schema["$defs"].items()
    }
    for key, value in schema["properties"].items():
        inner = value.get("items", value)
        if len(inner.get("properties", ())) > 1:
            objects[f"In `{key}`"] = inner
    tables = []
    for title, part in objects.items():
        rows = [
            [
                f"`{key}`",
                _kind(value),
                "yes" if key in part["required"] else "",
                value.get("description", ""),
            ]
            for key, value in part["properties"].items()
        ]
        table = markdown.table(["key", "type", "always", "meaning"], rows)
        tables.append(f"## {title}\n\n{table}")
    return "\n\n".join(tables)


def _kind(value) -> str:
    """The type of a value, in words."""
    if "enum" in value:
        return " or ".join(f"`{choice}`" for choice in value["enum"])
    kinds = value.get("type", "any")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    return " or ".join(kinds)


if __name__ == "__main__":
    for path, text in texts().items():
        write_text(path, text)
