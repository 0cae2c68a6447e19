"""Tests of the repository: targets, documents, pins, the direction of imports."""

import ast
import pathlib
import pkgutil
import re
import shlex

import PIL.Image
import pytest

import zoo

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = pathlib.Path(__file__).parents[1]
SOURCES = sorted(
    p for d in ("inres_tf", "zoo", "train") for p in (ROOT / d).rglob("*.py")
)
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
# The changelog names what was moved.
CURRENT = [path for path in DOCUMENTS if path.name != "CHANGELOG.md"]


def imported_names(source):
    """The dotted names of all modules, classes and functions that a source imports."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
    return names


def relative(path):
    return path.relative_to(ROOT).as_posix()


# The subpackages of inres_tf by level; other modules are on level 0.
LEVELS = {
    "layers": 1,
    "solvers": 1,
    "verifier": 1,
    "data": 2,
    "corruptions": 2,
    "models": 2,
    "distribution": 3,
    "attacks": 4,
    "serving": 4,
    "evaluation": 5,
    "training": 5,
    "reporting": 6,
    "analysis": 6,
    "reproduce": 7,
}
# Imports within a level: ready-made corrupted sets are datasets, and the layers of
# neural ODEs are solved.
SAME_LEVEL = {("corruptions", "data"), ("layers", "solvers")}
# These run on any backend of Keras, without TensorFlow.
PURE = ("inres_tf/layers/", "inres_tf/solvers/", "zoo/")
PURE_FILES = {
    f"inres_tf/models/{name}.py"
    for name in ("continuous", "damping", "depth", "graph", "residuals")
} | {"inres_tf/__init__.py"}
# What the zoo may import.
FOR_ZOO = (
    "class_names",
    "spelling",
    "layers",
    "solvers",
    "models.damping",
    "models.graph",
    "models.residuals",
)


def subpackage_of(module):
    """The subpackage of a module of inres_tf; None on level 0."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in LEVELS else None


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_imports_point_downwards(path):
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    names = imported_names(path.read_text())
    packages = {name.split(".")[0] for name in names}
    internal = {name for name in names if name.startswith("inres_tf.")}
    if module.startswith("inres_tf"):
        assert not packages & {"zoo", "train"}
        subpackage = subpackage_of(module)
        for other in {subpackage_of(name) for name in internal} - {None, subpackage}:
            assert (subpackage, other) in SAME_LEVEL or LEVELS[other] < LEVELS.get(
                subpackage, 0
            )
    # Programs.
    if module.startswith("zoo") and module not in ("zoo.verify", "zoo.__main__"):
        assert "train" not in packages
        allowed = tuple(f"inres_tf.{name}" for name in FOR_ZOO)
        assert all(name.startswith(allowed) for name in internal)
    pure = relative(path).startswith(PURE) or relative(path) in PURE_FILES
    if pure and path.name != "tensorflow_ops.py":
        assert "tensorflow" not in packages


def test_build_lists_the_subpackages_and_their_levels():
    build = (ROOT / "BUILD").read_text()
    listed = re.search(r"\nSUBPACKAGES = \{(.*?)\n\}", build, re.S).group(1)
    subpackages = set(re.findall(r'^    "(\w+)":', listed, re.M))
    folders = {p.parent.name for p in (ROOT / "inres_tf").glob("*/__init__.py")}
    assert subpackages == folders == set(LEVELS) - {"reproduce"}
    for subpackage, level in re.findall(r'"(\w+)": UP_TO_(\d)', listed):
        assert LEVELS[subpackage] == int(level) + 1


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_files_are_short(path):
    assert len(path.read_text().splitlines()) <= 520


def test_every_test_file_is_collected_and_in_build():
    build = (ROOT / "BUILD").read_text()
    assert 'glob(["tests/**/*_test.py"])' in build
    helpers = {"conftest.py", "run.py", "import_package.py"}
    for path in (ROOT / "tests").rglob("*.py"):
        # Bazel creates empty __init__.py files.
        assert path.name in {*helpers, "__init__.py"} or path.name.endswith("_test.py")
    listed = re.search(r"BINARIES = \[(.*?)\]", build, re.S).group(1)
    binaries = {
        p.stem for p in (ROOT / "train").glob("*.py") if "cli.run(" in p.read_text()
    }
    assert set(re.findall(r'"(\w+)"', listed)) == binaries - {"cli"}


def test_every_package_is_distributed_with_its_types():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert project["packages"]["find"]["include"] == ["inres_tf*", "zoo*", "train*"]
    data = project["package-data"]["*"]
    files = ["weights/*.json", "weights/*.weights.h5", "*.schema.json"]
    assert data == ["*.pyi", "py.typed", *files, "templates/*.html"]
    for folder in {p.parent for p in SOURCES}:
        assert (folder / "__init__.py").exists()
    for package in ("inres_tf", "zoo", "train"):
        assert (ROOT / package / "py.typed").exists()


def test_requirements_pin_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = {
        line.split("==")[0]
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    }
    needed = project["dependencies"] + project["optional-dependencies"]["dev"]
    assert {re.match(r"[\w-]+", d).group() for d in needed} <= pins
    required = {"tensorflow", "keras", "tensorflow-datasets", "cleverhans", "absl-py"}
    assert required <= pins


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_links_in_documents_work(path):
    for target, anchor in re.findall(r"\]\(([^)#]*)(#[^)]*)?\)", path.read_text()):
        if re.match(r"https?:", target):
            continue
        file = path.parent / target if target else path
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.M)
            anchors = {
                "#" + re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
                for heading in headings
            }
            assert anchor in anchors


@pytest.mark.parametrize("path", CURRENT, ids=lambda p: p.name)
def test_names_in_documents_exist(path):
    text = path.read_text()
    names = set(re.findall(r"\binres_tf(?:\.\w+)+", text))
    if path.name != "CONTRIBUTING.md":  # whose code contributing_test.py runs
        for block in re.findall(r"```python\n(.*?)```", text, re.S):
            names |= imported_names(block)
    for name in names:
        pkgutil.resolve_name(name)
    folders = "inres_tf|zoo|train|tests|benchmarks|docs"
    files = re.findall(rf"`((?:{folders})/[\w./]*)`", text)
    for file in files + re.findall(r"python (benchmarks/\w+\.py)", text):
        assert (ROOT / file).exists(), file


def commands():
    """Every `python -m train.NAME ...` in the documents."""
    for path in DOCUMENTS:
        text = path.read_text().replace("\\\n", " ")
        for line in re.findall(r"^\s*python -m (train\.\w+ .*)$", text, re.M):
            yield pytest.param(line, id=f"{path.name}: {line[:50]}")


@pytest.mark.parametrize("command", list(commands()))
def test_commands_in_documents_use_existing_flags(command):
    import dataclasses

    from inres_tf.analysis import AnalysisConfig
    from inres_tf.data import DataConfig
    from inres_tf.evaluation import EvaluationConfig
    from inres_tf.reproduce import ReproduceConfig
    from inres_tf.serving import PredictConfig
    from inres_tf.training import TrainConfig
    from inres_tf.verifier import VerifierConfig

    module, *arguments = shlex.split(command.split(" #")[0])
    name = module.removeprefix("train.")
    source = (ROOT / "train" / f"{name}.py").read_text()
    source += (ROOT / "train" / "cli.py").read_text()
    known = set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', source))
    for config in (
        AnalysisConfig,
        DataConfig,
        EvaluationConfig,
        PredictConfig,
        ReproduceConfig,
        TrainConfig,
        VerifierConfig,
    ):
        if config.__name__ in source:
            known |= {field.name for field in dataclasses.fields(config)}
    if "positional=True" in source:
        arguments = [a for a in arguments if a.startswith("--")]
    for argument in arguments:
        flag = argument.split("=")[0]
        assert flag.startswith("--"), argument
        assert {flag[2:], flag[2:].removeprefix("no")} & known, argument


def test_examples_in_the_readme_run(tmp_path, monkeypatch):
    """Runs every python block of the README in a temporary folder."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert len(blocks) >= 3
    monkeypatch.chdir(tmp_path)
    # The reader's photos in folders.
    for i in range(12):
        path = tmp_path / "photos" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", (8, 8), (20 * i, 0, 0)).save(path)
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_generated_tables_are_up_to_date():
    from train import _tables

    for path, text in _tables.texts().items():
        assert path.read_text(encoding="utf-8") == text, f"{path}: run make tables"


def test_the_readme_names_models_of_the_zoo():
    readme = (ROOT / "README.md").read_text()
    assert f"all {len(zoo.list_models())}" in readme
    names = re.findall(r"`(\w+)`", readme[: readme.index("## Three examples")])
    assert set(names) <= set(zoo.list_models())


def test_the_first_screen_of_the_readme_has_the_two_commands():
    screen = "\n".join((ROOT / "README.md").read_text().splitlines()[:45])
    assert "make demo" in screen and "make test" in screen and "x_{l+1}" in screen
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^demo:", makefile, re.M) and re.search(r"^test:", makefile, re.M)
