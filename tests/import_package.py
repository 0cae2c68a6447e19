"""Imports every module of a package: a subpackage of inres_tf, or the zoo."""

import importlib
import pathlib
import sys

ROOT = pathlib.Path(__file__).parents[1]

folder = ROOT / "zoo" if sys.argv[1] == "zoo" else ROOT / "inres_tf" / sys.argv[1]
sys.path.insert(0, str(ROOT))
for path in sorted(folder.rglob("*.py")):
    if path == ROOT / "zoo" / "verify.py":  # a program above all subpackages
        continue
    parts = path.relative_to(ROOT).with_suffix("").parts
    importlib.import_module(".".join(parts).removesuffix(".__init__"))
