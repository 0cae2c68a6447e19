"""Every flag of every program reaches the library.

Functions of the library are replaced by ones that record how they are called. Each flag
is changed alone, to a value that follows from its type, and something recorded, printed
or written must change; a flag that changes nothing, a new one too, fails the test. What
the fields of settings do in the library is in `tests/wiring_test.py`.
"""

import dataclasses
import functools
import json
import pathlib
import types

import keras
import pytest
import tensorflow as tf
from absl import flags

from inres_tf.data.dataset import DataConfig
from inres_tf.errors import UserError
from inres_tf.evaluation import results
from train import cli
from zoo import cards

ROOT = pathlib.Path(__file__).parents[2]
# The arguments that each program needs.
PROGRAMS = {
    "train.analyze": ("--checkpoint=a", "--output_dir=out"),
    "train.compare": ("one", "two"),
    "train.convert": ("--official_checkpoint=a.pt", "--output=a.keras"),
    "train.evaluate": ("--checkpoint=a",),
    "train.export": ("--checkpoint=a", "--output=out"),
    "train.list": ("--models=cpl_tiny",),
    "train.plot": (),
    "train.predict": ("a.png", "--checkpoint=a"),
    "train.publish": (
        "--checkpoint=a",
        "--weights=w",
        "--results=a.json",
        "--output_dir=out",
    ),
    "train.reproduce": (),
    "train.train": (),
    "train.verify": ("--checkpoint=a",),
    "zoo.verify": (),
}
PRINTING = ("train.list", "train.verify", "zoo.verify")
# Values of flags whose type does not tell which others they accept.
VALUES = {
    "attacks": "fgsm",
    "autoattack": "rand",
    "certify_radii": "5",
    "corruptions": "fog",
    "lambda_schedule": "fixed:0.5",
    "model": "plain8",
    "models": "plain8",
    "radii": "5",
    "rates": "2",
    "schedule": "cosine",
    "seeds": "5",
    "severity": "2",
    "solver": "rk4:8",
    "solver_steps": "3",
    "solvers": "euler",
    "workers": "a:1,b:2,c:3",
    "train.convert output": "other.weights.h5",
    "train.evaluate eps": "3",
    "train.evaluate output": "other.json",
    "train.plot output": "other.svg",
    "train.predict output": "other.json",
    "train.reproduce eps": "3",
    "train.verify num_examples": "7",
    "zoo.verify tolerance": "5",
}
# Other flags that a flag needs.
MANY = ("--strategy=multi_worker", "--workers=a:1,b:2", "--worker_index=0")
OF_THE_ZOO = ("--checkpoint=", "--model=resnet8", "--weights=w")
NEEDS = {
    "early_stopping": ("--validation_fraction=0.5",),
    "tpu": ("--strategy=tpu",),
    "warmup": ("--schedule=cosine",),
    "worker_index": MANY,
    "workers": MANY,
}
_WITH_MODELS = ("analyze", "evaluate", "export", "predict", "verify")
for program in (f"train.{name}" for name in _WITH_MODELS):
    NEEDS[f"{program} model"] = NEEDS[f"{program} weights"] = OF_THE_ZOO
NEEDS["train.publish model"] = OF_THE_ZOO


def entry(table, program, flag, default):
    """The entry of a flag of one program, or else of all flags of that name."""
    return table.get(f"{program} {flag}", table.get(flag, default))


def other(flag):
    """Another value than the default of a flag, as its type allows."""
    parser, default = flag.parser, flag.default
    if isinstance(parser, flags.BooleanParser):
        return str(not default)
    if isinstance(parser, flags.EnumParser):
        return next(value for value in parser.enum_values if value != default)
    if isinstance(parser, flags.IntegerParser):
        return str((default or 0) + 2)
    if isinstance(parser, flags.FloatParser):
        return str(default / 2 if default else 0.5)
    return "other"


def plain(value):
    """A value for JSON; of models and functions little, of the own command nothing."""
    if dataclasses.is_dataclass(value):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        # The files of weights hold the time.
        return {k: plain(item) for k, item in value.items() if k != "sha256"}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, keras.Model):
        return value.name
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (str, pathlib.Path)):
        text = str(value)
        return "command" if text.startswith("python -m train.") else text
    return getattr(value, "shape", type(value).__name__)


def model_of(name, *_, **__):
    """A model in place of one of the zoo or of a checkpoint."""
    inputs = keras.Input((8, 8, 1), name="pixels")
    x = keras.layers.Dense(10, "softmax", name="head")(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, x, name=str(name))
    model.set_weights([0 * w for w in model.get_weights()])
    return model


def stop(*_, **__):
    """In place of a function after which no flag matters any more."""
    raise UserError("stopped")


def write_report(folder, stem, *_):
    pathlib.Path(folder).mkdir(exist_ok=True)
    pathlib.Path(folder, f"{stem}.md").write_text("")


CLEAN = {"accuracy": 0.5}
RESULT = {"model": "resnet8", "class_names": list("0123456789"), "checks": []}
RESULT |= {"dataset": "digits", "num_examples": 5}
RESULT["command"] = "train.evaluate --model=resnet8 --model=plain8 --weights=w"
VERIFIED = {"num_examples": 5, "clean": CLEAN, "lipschitz": {"head": 1.0}}
VERIFIED["certificates"] = {"radii": {"36": 0.5}}
LIBRARY = {
    "inres_tf.analysis.analyze": stop,
    "inres_tf.convert.load_official_state": lambda *_: None,
    "inres_tf.convert.read_official_checkpoint": lambda path: {},
    "inres_tf.distribution.make_strategy": lambda _: tf.distribute.get_strategy(),
    "inres_tf.distribution.workers.check_same_settings": lambda settings: None,
    "inres_tf.evaluation.validation.check_preprocessing": lambda *_: None,
    "inres_tf.evaluation.evaluate_model": lambda *_, **__: {
        "fingerprint": "0",
        "clean": CLEAN,
    },
    "inres_tf.evaluation.results.read": lambda path: {},
    "inres_tf.models.custom_objects.import_modules": lambda modules: None,
    "inres_tf.models.with_preprocessing": lambda model, name: model,
    "inres_tf.models.with_solver": lambda model, settings: model,
    "inres_tf.plotting.save": stop,
    "inres_tf.reporting.compare": lambda *_: [],
    "inres_tf.reporting.html.facts_of": lambda comparisons: {},
    "inres_tf.reporting.html.write": write_report,
    "inres_tf.reporting.read_measurements": lambda paths: [
        types.SimpleNamespace(
            name="a",
            result=RESULT | {"model": getattr(flags.FLAGS, "model", None) or "resnet8"},
            accuracies={},
            file="a.json",
            seed=0,
            flags=None,
        )
    ],
    "inres_tf.reporting.tables.evaluation": lambda result: "table",
    "inres_tf.reproduce.reproduce": stop,
    "inres_tf.serving.export": stop,
    "inres_tf.serving.predict": lambda *_: {"predictions": [], "failed": []},
    "inres_tf.training.checkpoints.find_model": lambda path, *_: path,
    "inres_tf.training.checkpoints.load_model": model_of,
    "inres_tf.training.metrics_log.find": lambda runs: {},
    "inres_tf.training.plots.training_curves": lambda *_, **__: None,
    "inres_tf.training.train": stop,
    "inres_tf.verifier.archive.find": lambda path: path,
    "inres_tf.verifier.read_chain": lambda *_: None,
    "inres_tf.verifier.verify": lambda *_: VERIFIED,
    "zoo.get_model": model_of,
    "zoo.weight_files.resolve": lambda name, weights: weights,
    "zoo.weight_files.saved_classes": lambda path: 10,
    "zoo.weight_files.saved_shape": lambda path: (8, 8, 1),
}


@pytest.fixture
def observe(binary, digits, monkeypatch, tmp_path):
    """Function that returns what a program does with some arguments, as JSON.

    `observe.flags` are the flags of the program that was called last.
    """
    calls = []

    def recorder(path, function):
        def call(*args, **kwargs):
            calls.append([path, plain(args), plain(kwargs)])
            return function(*args, **kwargs)

        return call

    for path, function in LIBRARY.items():
        monkeypatch.setattr(path, recorder(path, function))
    monkeypatch.setattr(DataConfig, "load", recorder("load", lambda self: digits))
    few = digits.test.take(slice(5))
    claims = types.SimpleNamespace(
        source="a result",
        num_examples=5,
        fingerprint=results.fingerprint(few.images, few.labels),
        check=lambda report: None,
    )
    monkeypatch.setattr("inres_tf.verifier.claims_of", lambda *_: claims)
    evaluations = [{"num_examples": 5, "fingerprint": "0", "clean": {"accuracy": 0.51}}]
    shipped = {"input_shape": [8, 8, 1], "classes": RESULT["class_names"]}
    shipped |= {"evaluations": evaluations, "dataset": {"name": "digits"}}
    shelf = {("resnet8", "w"): shipped, ("plain8", "other"): shipped}
    to_add = {
        (name, "w"): shipped | {"model": name, "weights": "w", "evaluations": []}
        for name in ("resnet8", "plain8")
    }
    run = {"model": "resnet8", "dataset": "digits", "epochs": 1}
    config = {"flags": run, "seed": 0, "versions": {}, "device": "a"}
    own, start = set(flags.FLAGS), cli.run

    def run_program(*args, **kwargs):
        observe.flags = {name: flags.FLAGS[name] for name in set(flags.FLAGS) - own}
        start(*args, **kwargs)

    monkeypatch.setattr(cli, "run", run_program)

    @functools.cache
    def observe(program, *arguments):
        calls.clear()
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        for run_name in ("a", "other"):
            (folder / run_name).mkdir(parents=True)
            (folder / run_name / "config.json").write_text(json.dumps(config))
        monkeypatch.chdir(folder)
        package, name = program.split(".")
        with pytest.MonkeyPatch.context() as patch:
            if package == "zoo":
                patch.setattr(cards, "shipped_cards", lambda: shelf)
            if name == "publish":
                patch.setattr(cards, "read_cards", lambda folder: to_add)
            _, out, err = binary(name, *arguments, package=package)
        assert err in ("", f"{program}: stopped\n"), (arguments, err)
        files = {
            str(path.relative_to(folder)): plain(json.loads(path.read_text()))
            if path.suffix == ".json"
            else ""
            for path in sorted(folder.rglob("*"))
        }
        return json.dumps([calls, files, out if program in PRINTING else ""])

    return observe


def test_every_program_is_tested():
    programs = {
        f"{package}.{path.stem}"
        for package in ("train", "zoo")
        for path in (ROOT / package).glob("*.py")
        if "cli.run(" in path.read_text()
    }
    assert set(PROGRAMS) == programs


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_flag_is_seen(program, observe):
    arguments = PROGRAMS[program]
    assert observe(program, *arguments) == observe.__wrapped__(program, *arguments)
    unseen = []
    for name, flag in observe.flags.items():
        needs = entry(NEEDS, program, name, ())
        value = entry(VALUES, program, name, other(flag))
        before = observe(program, *arguments, *needs)
        if observe(program, *arguments, *needs, f"--{name}={value}") == before:
            unseen.append(name)
    assert unseen == []
