"""The repository tests itself: targets, documents, pins, the direction of imports."""

import ast
import importlib
import pathlib
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


def imports(path):
    """Top-level names and, for our own packages, modules that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
    return found


def packages(path):
    return {name.split(".")[0] for name in imports(path)}


def within(path):
    return path.relative_to(ROOT).as_posix()


# The rooms of inres_tf by floor; a module that is in no room stands on the ground.
FLOORS = {
    "layers": 1,
    "solvers": 1,
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
# The one arrow within a floor: ready-made sets are read as other data sets are.
BESIDE = {("corruptions", "data")}
# No TensorFlow: these run on any backend.
PURE = ("inres_tf/layers/", "inres_tf/solvers/", "zoo/")
PURE_FILES = {
    f"inres_tf/models/{name}.py" for name in ("damping", "graph", "residuals")
} | {"inres_tf/__init__.py"}
# Rooms that the zoo may import.
OF_ZOO = ("layers", "solvers", "models.damping", "models.graph", "models.residuals")


def room_of(module):
    """The room of a module of inres_tf, by its dotted name."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOORS else None


@pytest.mark.parametrize("path", SOURCES, ids=within)
def test_imports_point_one_way(path):
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    package, used = module.split(".")[0], packages(path)
    ours = {name for name in imports(path) if name.startswith("inres_tf.")}
    if package == "inres_tf":
        assert not used & {"zoo", "train"}
        room = room_of(module)
        for other in {room_of(name) for name in ours} - {None, room}:
            assert (room, other) in BESIDE or FLOORS[other] < FLOORS.get(room, 0)
    if package == "zoo":
        assert "train" not in used
        allowed = tuple(f"inres_tf.{name}" for name in OF_ZOO)
        assert all(name.startswith(allowed) for name in ours)
    if (
        within(path).startswith(PURE) or within(path) in PURE_FILES
    ) and path.name != "tensorflow_ops.py":
        assert "tensorflow" not in used


def test_build_has_the_rooms_and_their_floors():
    build = (ROOT / "BUILD").read_text()
    listed = re.search(r"\nROOMS = \{(.*?)\n\}", build, re.S).group(1)
    rooms = set(re.findall(r'^    "(\w+)":', listed, re.M))
    folders = {p.parent.name for p in (ROOT / "inres_tf").glob("*/__init__.py")}
    assert rooms == folders == set(FLOORS) - {"reproduce"} - ({"solvers"} - folders)
    for room, floor in re.findall(r'"(\w+)": UP_TO_(\d)', listed):
        assert FLOORS[room] == int(floor) + 1


@pytest.mark.parametrize("path", SOURCES, ids=within)
def test_files_stay_readable(path):
    assert len(path.read_text().splitlines()) <= 520


def test_every_test_file_is_collected_and_in_build():
    build = (ROOT / "BUILD").read_text()
    assert 'glob(["tests/**/*_test.py"])' in build
    helpers = {"conftest.py", "run.py", "import_room.py"}
    for path in (ROOT / "tests").rglob("*.py"):
        # Bazel makes empty __init__.py files.
        assert path.name in {*helpers, "__init__.py"} or path.name.endswith("_test.py")
    listed = re.search(r"BINARIES = \[(.*?)\]", build, re.S).group(1)
    binaries = {
        p.stem for p in (ROOT / "train").glob("*.py") if "cli.run(" in p.read_text()
    }
    assert set(re.findall(r'"(\w+)"', listed)) == binaries - {"cli"}


def test_every_package_is_shipped_with_its_types():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert project["packages"]["find"]["include"] == ["inres_tf*", "zoo*", "train*"]
    assert project["package-data"]["*"] == ["*.pyi", "py.typed"]
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
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    assert {re.match(r"[\w-]+", d).group() for d in wanted} <= pins
    required = {"tensorflow", "keras", "tensorflow-datasets", "cleverhans", "absl-py"}
    assert required <= pins


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_links_in_documents_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
        if not re.match(r"https?:", target):
            assert (path.parent / target).exists(), target


def commands():
    """Every `python -m train.NAME ...` in the documents."""
    for path in DOCUMENTS:
        text = path.read_text().replace("\\\n", " ")
        for line in re.findall(r"^\s*python -m (train\.\w+ .*)$", text, re.M):
            yield pytest.param(line, id=f"{path.name}: {line[:50]}")


@pytest.mark.parametrize("command", list(commands()))
def test_commands_in_documents_use_flags_that_exist(command):
    import dataclasses

    from inres_tf.analysis import AnalysisConfig
    from inres_tf.data import DataConfig
    from inres_tf.evaluation import EvaluationConfig
    from inres_tf.reproduce import ReproduceConfig
    from inres_tf.training import TrainConfig

    module, *arguments = shlex.split(command.split(" #")[0])
    name = module.removeprefix("train.")
    source = (ROOT / "train" / f"{name}.py").read_text()
    source += (ROOT / "train" / "cli.py").read_text()
    known = set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', source))
    for config in (
        AnalysisConfig,
        DataConfig,
        EvaluationConfig,
        ReproduceConfig,
        TrainConfig,
    ):
        if config.__name__ in source:
            known |= {field.name for field in dataclasses.fields(config)}
    if "positional=True" in source:
        arguments = [a for a in arguments if a.startswith("--")]
    for argument in arguments:
        flag = argument.split("=")[0]
        assert flag.startswith("--") and flag[2:].removeprefix("no") in known, argument


def test_examples_in_the_readme_run(tmp_path, monkeypatch):
    """Each python block of the README, in a folder of its own."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert len(blocks) >= 3
    monkeypatch.chdir(tmp_path)
    # What the reader has: photos in folders, a trained network.
    zoo.InResNet20(input_shape=(8, 8, 3), classes=4).save("trained.keras")
    for i in range(12):
        path = tmp_path / "photos" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", (8, 8), (20 * i, 0, 0)).save(path)
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_table_of_the_zoo_is_what_the_command_prints(monkeypatch):
    """docs/zoo.md is made by: python -m train.list."""
    table = importlib.import_module("train.list").table(zoo.list_models())
    assert table in (ROOT / "docs" / "zoo.md").read_text()
    readme = (ROOT / "README.md").read_text()
    assert f"all {len(zoo.list_models())}" in readme
    rows = re.findall(r"`(\w+)`", readme[: readme.index("## Three examples")])
    assert {name for name in rows if not name.startswith("zoo")} <= set(
        zoo.list_models()
    )


def test_the_two_commands_are_on_the_first_screen():
    first = "\n".join((ROOT / "README.md").read_text().splitlines()[:45])
    assert "make demo" in first and "make test" in first and "x_{l+1}" in first
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^demo:", makefile, re.M) and re.search(r"^test:", makefile, re.M)
