"""Every public function has an example in its docstring, and it runs."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import inres_tf
import zoo

SUBPACKAGES = [m.name for m in pkgutil.iter_modules(inres_tf.__path__) if m.ispkg]
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def exported():
    """The functions and classes that the packages export, each once, by name."""
    found = {f"inres_tf.{name}": getattr(inres_tf, name) for name in TOP}
    packages = [f"inres_tf.{subpackage}" for subpackage in SUBPACKAGES]
    for package in [*packages, "inres_tf.training.objectives", "zoo"]:
        module = importlib.import_module(package)
        for name in module.__all__:
            # Of the constructors, which share a docstring, one of each family.
            if package == "zoo" and name[0].isupper() and name not in CONSTRUCTORS:
                continue
            member = getattr(module, name)
            if inspect.isfunction(member) or inspect.isclass(member):
                found.setdefault(f"{member.__module__}.{member.__qualname__}", member)
    found["inres_tf.convert.load_official_state"] = inres_tf.convert.load_official_state
    return found


TOP = ("damp", "additions", "deepen")
CONSTRUCTORS = ("InResNet", "InResNet20", "EnResNet8", "InResNeXt11_4x16d")
EXPORTED = exported()


@pytest.mark.parametrize("name", EXPORTED)
def test_examples_run(name, tmp_path, monkeypatch):
    member = EXPORTED[name]
    monkeypatch.chdir(tmp_path)
    names = {"inres_tf": inres_tf, "zoo": zoo}
    parser = doctest.DocTestParser()
    examples = parser.get_doctest(member.__doc__ or "", names, name, None, 0)
    if inspect.isfunction(member):
        assert examples.examples, f"{name} has no example"
    output = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    runner.run(examples, out=output.append)
    assert not runner.failures, "".join(output)


@pytest.mark.parametrize("name", EXPORTED)
def test_public_functions_are_annotated(name):
    member = EXPORTED[name]
    if inspect.isclass(member):
        return
    signature = inspect.signature(member)
    missing = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.annotation is parameter.empty
    ]
    if name.startswith("zoo.constructors"):  # the stub has their types
        return
    assert not missing, f"{name}: {missing} have no annotation"
    assert signature.return_annotation is not signature.empty, name


def test_the_example_of_the_zoo_runs():
    examples = doctest.DocTestParser().get_doctest(zoo.__doc__, {}, "zoo", None, 0)
    output = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    runner.run(examples, out=output.append)
    assert len(examples.examples) == 5 and not runner.failures, "".join(output)
