"""Changes the code in small ways and lists the changes that no test notices.

Cosmic Ray makes the mutants and stores their results, so that a stopped run continues
where it was. Its own runner would import TensorFlow, for seconds, once per mutant.
Instead, each mutant is tested in a fork of a process that has imported TensorFlow but
not used it, and therefore has a single thread.
"""

import argparse
import ast
import collections
import contextlib
import difflib
import fnmatch
import hashlib
import importlib
import os
import pathlib
import random
import re
import shutil
import signal
import sys
import tempfile
import time

from cosmic_ray import plugins
from cosmic_ray.commands.init import init
from cosmic_ray.mutating import use_mutation
from cosmic_ray.work_db import use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkResult

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = tomllib.loads((ROOT / "benchmarks" / "mutants.toml").read_text())
# What the tests of the listed modules read.
COPIED = ("inres_tf", "zoo", "train", "tests", "docs", "pyproject.toml")


def tests_of(module):
    """The arguments of pytest for a module."""
    return CONFIG["modules"][str(module)]


def subpackage_of(module):
    return pathlib.Path(module).parts[1]


def ignored_lines(module):
    """Pairs of positions (line, column) between which nothing runs."""
    for node in ast.walk(ast.parse(pathlib.Path(module).read_text())):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            parts = [node]
        else:
            parts = [getattr(node, name, None) for name in ("annotation", "returns")]
        for part in filter(None, parts):
            yield (
                (part.lineno, part.col_offset),
                (part.end_lineno, part.end_col_offset),
            )


def modules_of(subpackage):
    return [
        pathlib.Path(name)
        for name in CONFIG["modules"]
        if subpackage_of(name) == subpackage
    ]


def session(subpackage, sample, seed):
    """The database of a sample. Its name changes with the code of the subpackage."""
    contents = [CONFIG["operators"].encode(), *map(bytes, modules_of(subpackage))]
    contents += [module.read_bytes() for module in modules_of(subpackage)]
    digest = hashlib.sha256(b"\0".join(contents)).hexdigest()[:8]
    folder = ROOT / "build" / "mutants"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{subpackage}-{digest}-sample{sample}-seed{seed}.sqlite"


def draw(database, subpackage, sample, seed):
    """Fills a database with a random sample of the mutants of a subpackage."""
    ignored = {module: list(ignored_lines(module)) for module in modules_of(subpackage)}
    items = {}
    with use_db(":memory:") as every:
        init(modules_of(subpackage), every, {})
        for item in every.work_items:
            (mutation,) = item.mutations
            if re.search(CONFIG["operators"], mutation.operator_name) and not any(
                start <= mutation.start_pos and mutation.end_pos <= end
                for start, end in ignored[mutation.module_path]
            ):
                module, operator = str(mutation.module_path), mutation.operator_name
                items[module, operator, mutation.occurrence] = item
    keys = sorted(items)
    chosen = random.Random(seed).sample(keys, min(sample or len(keys), len(keys)))
    print(f"{subpackage}: {len(chosen)} of {len(items)} mutants", flush=True)
    # At once, so that a stopped program leaves all or nothing.
    database.add_work_items(items[key] for key in chosen)


def passes(tests, log, timeout):
    """Runs pytest in a fork of this process: whether it passed, or timed out."""
    child = os.fork()
    if not child:
        os.setsid()  # so that its own children end with it
        with open(log, "w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.path.insert(0, os.getcwd())
        import pytest

        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests])
        sys.stdout.flush()
        os._exit(int(code))
    try:
        deadline = time.monotonic() + timeout
        while not (ended := os.waitpid(child, os.WNOHANG))[0]:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        child = 0
        return ended[1] == 0
    finally:
        if child:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)


def test(mutation, log, timeout):
    """Applies a mutation, runs the tests of its module and takes it back."""
    operator = plugins.get_operator(mutation.operator_name)()
    path = mutation.module_path
    with use_mutation(path, operator, mutation.occurrence) as (before, after):
        passed = passes(tests_of(path), log, timeout)
    sides = before.splitlines(), after.splitlines()
    names = f"a/{path}", f"b/{path}"
    return WorkResult(
        worker_outcome=WorkerOutcome.NORMAL,
        test_outcome=TestOutcome.SURVIVED if passed else TestOutcome.KILLED,
        diff="\n".join(difflib.unified_diff(*sides, *names, lineterm="")),
        output=pathlib.Path(log).read_text(errors="replace")[-2000:],
    )


def work(database, log, again):
    """Tests the mutants left, and survivors again if asked."""
    items = list(database.pending_work_items)
    if again:
        items += [
            item
            for item, result in database.completed_work_items
            if result.test_outcome == TestOutcome.SURVIVED
            and not reason(item.mutations[0].module_path, result.diff)
        ]
    groups = collections.defaultdict(list)
    for item in items:
        groups[tuple(tests_of(item.mutations[0].module_path))].append(item)
    done = 0
    for tests, group in sorted(groups.items()):
        sys.dont_write_bytecode = False
        start = time.monotonic()
        if not passes(tests, log, CONFIG["timeout"]):
            print(log.read_text(errors="replace"))
            sys.exit(f"{' '.join(tests)}: the tests must pass without a mutant")
        seconds = time.monotonic() - start
        print(f"{' '.join(tests)}: {seconds:.0f} s", flush=True)
        # The cache of a mutant could be taken for that of the original.
        sys.dont_write_bytecode = True
        for item in group:
            result = test(item.mutations[0], log, 60 + 5 * seconds)
            database.set_result(item.job_id, result)
            done += 1
            word = "survived" if result.test_outcome == "survived" else "caught"
            place = f"{item.mutations[0].module_path}:{item.mutations[0].start_pos[0]}"
            print(f"{done}/{len(items)} {place} {word}", flush=True)


def changed_lines(diff):
    """The lines that a diff removes and adds, without indentation and empty lines."""
    lines = [line for line in diff.split("\n")[2:] if line[:1] in ("-", "+")]
    lines = [line for line in lines if line[1:].strip()]
    return [" ".join([line[0], *line[1:].split()]) for line in lines]


def reason(module, diff):
    """Why a mutant is equivalent to the original, if the configuration says so."""
    for entry in CONFIG.get("equivalent", []):
        if fnmatch.fnmatch(str(module), entry["module"]) and (
            entry["diff"] == changed_lines(diff)
        ):
            return entry["reason"]
    return None


def report(databases):
    """Prints the survivors and the share of mutants caught per subpackage."""
    subpackages = {}
    for subpackage, database in databases.items():
        subpackages[subpackage] = counts = collections.Counter()
        for item, result in database.completed_work_items:
            word = "caught"
            if result.test_outcome == TestOutcome.SURVIVED:
                known = reason(item.mutations[0].module_path, result.diff)
                word = "equivalent" if known else "survived"
            if word == "survived":
                print(f"\n{result.diff}")
            counts[word] += 1
        counts["left"] = database.num_work_items - database.num_results
    subpackages["all"] = sum(subpackages.values(), collections.Counter())
    print("\n| subpackage | tested | left | equivalent | survived | caught |")
    print("|---|---|---|---|---|---|")
    for subpackage, counts in subpackages.items():
        share = counts["caught"] / max(1, counts["caught"] + counts["survived"])
        cells = [subpackage, counts.total() - counts["left"]]
        cells += [counts[word] for word in ("left", "equivalent", "survived")]
        print(f"| {' | '.join(map(str, cells))} | {100 * share:.1f}% |")


@contextlib.contextmanager
def without_stderr():
    """Hides what libraries write to stderr while they start."""
    stderr = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def main():
    every = list(dict.fromkeys(map(subpackage_of, CONFIG["modules"])))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=30, help="per subpackage; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--subpackages", nargs="+", default=every, choices=every)
    parser.add_argument("--report", action="store_true", help="run nothing")
    parser.add_argument("--again", action="store_true", help="run survivors again")
    options = parser.parse_args()
    # So that `kill` ends a run in the background as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.chdir(ROOT)
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        databases = {}
        for subpackage in options.subpackages:
            path = session(subpackage, options.sample, options.seed)
            databases[subpackage] = stack.enter_context(use_db(path))
            if not databases[subpackage].num_work_items:
                draw(databases[subpackage], subpackage, options.sample, options.seed)
        if not options.report:
            tree, temporary = folder / "tree", folder / "tmp"
            tree.mkdir()
            temporary.mkdir()
            for part in COPIED:
                copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
                copy(ROOT / part, tree / part)
            os.chdir(tree)
            os.environ |= {"PYTHONPATH": str(tree), "TMPDIR": str(temporary)}
            os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
            tempfile.tempdir = None  # read TMPDIR again
            try:
                with without_stderr():
                    for module in CONFIG["preload"]:
                        importlib.import_module(module)
                for database in databases.values():
                    work(database, folder / "log", options.again)
            except KeyboardInterrupt:
                print("Stopped. The same command resumes.")
            os.chdir(ROOT)
        report(databases)


if __name__ == "__main__":
    main()
