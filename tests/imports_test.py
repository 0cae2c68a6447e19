"""What imports load, and the names that packages export."""

import json
import pathlib
import subprocess
import sys

import pytest

import zoo

ROOT = pathlib.Path(__file__).parents[1]
HEAVY = ["tensorflow", "keras", "tensorflow_datasets", "matplotlib", "sklearn"]


def run(code, *arguments):
    """Runs Python code in a new process; returns what it prints as JSON."""
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("package", ["inres_tf", "zoo"])
def test_packages_load_nothing_heavy(package):
    code = """
import importlib, json, sys
importlib.import_module(sys.argv[1])
print(json.dumps([name.split(".")[0] for name in sys.modules]))
"""
    loaded = run(code, package)
    assert package in loaded
    assert not set(loaded) & set(HEAVY)


@pytest.mark.parametrize("order", ["inres_tf, keras", "keras, inres_tf"])
def test_layers_are_registered_in_either_order(order):
    code = f"""
import json
import {order}
names = ["BatchNormalization", "DampedAdd", "GroupedConv2D", "UniformNoise"]
layers = [keras.saving.get_registered_object(f"inres_tf>{{name}}") for name in names]
print(json.dumps([f"{{layer.__module__}}.{{layer.__name__}}" for layer in layers]))
"""
    assert run(code) == [
        "inres_tf.layers.batch_normalization.BatchNormalization",
        "inres_tf.layers.damped_add.DampedAdd",
        "inres_tf.layers.grouped_conv2d.GroupedConv2D",
        "inres_tf.layers.uniform_noise.UniformNoise",
    ]


# Resolves every exported name, first as a user does, and again once all submodules are
# loaded: importing a submodule sets it as an attribute of its package.
EXPORTS = """
import ast, importlib, json, pathlib, pkgutil, types
import inres_tf

root = pathlib.Path(inres_tf.__file__).parent
packages = {}
for path in sorted(root.rglob("__init__.py")):
    if path.parent == root:
        continue
    name = ".".join(["inres_tf", *path.parent.relative_to(root).parts])
    stub = path.with_suffix(".pyi")
    exported = None
    if stub.exists():
        aliases = [
            alias
            for node in ast.parse(stub.read_text()).body
            for alias in node.names
        ]
        exported = [alias.asname or alias.name for alias in aliases]
    packages[name] = {"exported": exported}

def check(key):
    for name, facts in packages.items():
        package = importlib.import_module(name)
        names = package.__all__ if facts["exported"] is None else facts["exported"]
        facts[key + "_missing"] = [n for n in names if not hasattr(package, n)]
        facts[key + "_functions"] = {
            n: f"{getattr(package, n).__module__}.{getattr(package, n).__qualname__}"
            for n in names
            if hasattr(getattr(package, n, None), "__qualname__")
        }

check("first")
for name, facts in packages.items():
    package = importlib.import_module(name)
    submodules = [
        module.name
        for module in pkgutil.iter_modules(package.__path__)
        if not module.name.startswith("_")
    ]
    for module in submodules:
        importlib.import_module(f"{name}.{module}")
    facts["submodules"] = submodules
    facts["all"] = list(package.__all__)
check("later")
for name, facts in packages.items():
    package = importlib.import_module(name)
    facts["shadowed"] = [
        module
        for module in facts["submodules"]
        if not isinstance(getattr(package, module), types.ModuleType)
    ]
modules = [module.name for module in pkgutil.iter_modules(inres_tf.__path__)]
print(json.dumps({
    "packages": packages,
    "all": inres_tf.__all__,
    "modules": modules,
    "missing": [name for name in inres_tf.__all__ if not hasattr(inres_tf, name)],
    "shadowed": [
        name
        for name in modules
        if not isinstance(getattr(inres_tf, name), types.ModuleType)
    ],
}))
"""


@pytest.fixture(scope="module")
def exports():
    return run(EXPORTS)


def test_inres_tf_exports_its_modules_and_four_names(exports):
    expected = {*exports["modules"], "additions", "Addition", "damp", "deepen"}
    assert set(exports["all"]) == expected
    assert len(exports["all"]) == len(expected)
    assert not exports["missing"] and not exports["shadowed"]


def test_every_exported_name_resolves(exports):
    assert len(exports["packages"]) > 10
    for name, facts in exports["packages"].items():
        assert not facts["first_missing"] and not facts["later_missing"], name
        assert facts["first_functions"] == facts["later_functions"], name
        if facts["exported"] is not None:
            assert set(facts["exported"]) == set(facts["all"]), name


def test_every_public_submodule_is_in_the_stub(exports):
    """Packages without a stub import their names eagerly."""
    eager = set()
    for name, facts in exports["packages"].items():
        if facts["exported"] is None:
            eager.add(name)
        else:
            assert set(facts["submodules"]) <= set(facts["exported"]), name
    assert eager == {"inres_tf.layers", "inres_tf.solvers"}


def test_no_submodule_is_shadowed_by_a_name(exports):
    for name, facts in exports["packages"].items():
        assert not facts["shadowed"], name


def test_loading_a_model_without_the_import_is_documented(tmp_path):
    """With the words that Keras uses."""
    path = tmp_path / "model.keras"
    zoo.InResNet8(input_shape=(8, 8, 1)).save(path)
    code = """
import json, sys
import keras
try:
    keras.models.load_model(sys.argv[1])
except Exception as error:
    problem = str(error) + str(error.__cause__) + str(error.__context__)
import inres_tf
print(json.dumps([problem, keras.models.load_model(sys.argv[1]).name]))
"""
    problem, name = run(code, path)
    words = "Could not locate class 'BatchNormalization'"
    assert words in problem and name == "in_resnet8"
    for page in ("docs/models.md", "docs/examples.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        assert words in text and "import inres_tf" in text
    assert words in zoo.__doc__.replace("\n", " ")
    assert "`import inres_tf`, then" in (ROOT / "README.md").read_text("utf-8")
