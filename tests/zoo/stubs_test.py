import ast
import inspect
import pathlib

import pytest

import zoo
from zoo import _stubs

TREE = ast.parse(_stubs.text())
STUBS = {node.name: node for node in TREE.body if isinstance(node, ast.FunctionDef)}


def parameters_of(stub):
    """Names and defaults of a stub's parameters, without `**kwargs`."""
    arguments = stub.args
    assert not arguments.posonlyargs + arguments.kwonlyargs and not arguments.vararg
    names = [argument.arg for argument in arguments.args]
    defaults = [ast.literal_eval(default) for default in arguments.defaults]
    required = [inspect.Parameter.empty] * (len(names) - len(defaults))
    return dict(zip(names, required + defaults, strict=True))


def test_file_is_up_to_date():
    path = pathlib.Path(zoo.__file__).with_name("__init__.pyi")
    assert path.read_text(encoding="utf-8") == _stubs.text(), "run python -m zoo._stubs"


def test_every_name_has_a_stub():
    assert len(set(zoo.__all__)) == len(zoo.__all__)
    assert set(STUBS) == set(zoo.__all__)


@pytest.mark.parametrize("name", zoo.__all__)
def test_signature(name):
    function = getattr(zoo, name)
    assert callable(function)
    parameters = inspect.signature(function).parameters.values()
    variadic = [p.name for p in parameters if p.kind is p.VAR_KEYWORD]
    assert variadic == ([STUBS[name].args.kwarg.arg] if STUBS[name].args.kwarg else [])
    defaults = [(p.name, p.default) for p in parameters if p.name not in variadic]
    assert defaults == list(parameters_of(STUBS[name]).items())


@pytest.mark.parametrize("name", zoo.__all__)
def test_annotations(name):
    """Every parameter and the return have a type, and there is a summary."""
    stub = STUBS[name]
    assert stub.returns is not None and ast.get_docstring(stub)
    assert all(argument.annotation is not None for argument in stub.args.args)
