"""Writes the tables of the documents that the zoo and the cards determine.

python -m train._tables
"""

import pathlib
import re

import zoo
from inres_tf.files import write_text
from inres_tf.reporting import leaderboard
from train import compare
from train import list as listing

DOCS = pathlib.Path(__file__).parents[1] / "docs"


def texts() -> dict[pathlib.Path, str]:
    """Returns the documents with new tables, by path.

    In `zoo.md` the table of models is replaced, in `weights.md` all sections of the
    third level; the leaderboard is written as a whole.
    """
    names = zoo.list_models()
    rows = leaderboard.rank(compare.shipped())
    parts = {
        "zoo.md": (r"^\| model .*?(?=\n[^|]|\Z)", listing.table(names)),
        "weights.md": (r"^### .*\Z", listing.shipped(names)),
    }
    written = {}
    for name, (pattern, table) in parts.items():
        text = (DOCS / name).read_text(encoding="utf-8")
        new = re.sub(pattern, lambda _, t=table: t, text, flags=re.S | re.M)  # type: ignore[misc]
        written[DOCS / name] = new.rstrip("\n") + "\n"
    written[DOCS / "leaderboard.md"] = leaderboard.markdown(rows)
    written[DOCS / "leaderboard.html"] = leaderboard.page(rows)
    return written


if __name__ == "__main__":
    for path, text in texts().items():
        write_text(path, text)
