"""What is recognised as the same: each part of a key, changed alone, changes it.

The fields of settings are taken from their classes, and any other part of an origin
without a change here fails `test_every_part_of_an_origin_is_covered`.
"""

import dataclasses
import json
import os
import sys

import keras
import numpy as np
import pytest

from inres_tf import reproduce, training
from inres_tf.data import Dataset, Images
from inres_tf.data.dataset import DataConfig
from inres_tf.errors import UserError
from inres_tf.evaluation import EvaluationConfig, results
from inres_tf.evaluation.results import PartialResult
from inres_tf.reproduce import ReproduceConfig
from inres_tf.training import TrainConfig, run, run_folder

NAMES = ("cat", "dog")


def parts(value, path=""):
    """The parts of JSON by their path; a list of numbers or names is one part."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        value = {str(number): item for number, item in enumerate(value)}
    if not isinstance(value, dict):
        return {path.strip(): value}
    return {
        k: v for key, x in value.items() for k, v in parts(x, f"{path}{key} ").items()
    }


def images_of(seed):
    rng = np.random.default_rng(seed)
    return Images(rng.integers(0, 256, (6, 2, 2, 1)).astype(np.uint8), np.arange(6) % 2)


def brighter(images):
    """The images with one other value."""
    pixels = images.images.copy()
    pixels[-1, -1, -1, -1] ^= 1
    return dataclasses.replace(images, images=pixels)


def relabelled(images):
    """The images with one other label."""
    labels = images.labels.copy()
    labels[-1] ^= 1
    return dataclasses.replace(images, labels=labels)


IMAGES, LABELS = images_of(0).images, images_of(0).labels
FINGERPRINTS = {
    "a pixel": (brighter(images_of(0)).images, LABELS),
    "shape of the images": (IMAGES.reshape(6, 4, 1, 1), LABELS),
    "type of the images": (IMAGES.astype(np.int8), LABELS),
    "order of the images": (IMAGES[::-1], LABELS),
    "a label": (IMAGES, relabelled(images_of(0)).labels),
    "order of the labels": (IMAGES, LABELS[::-1]),
    "shape of the labels": (IMAGES, LABELS[:, None]),
    "type of the labels": (IMAGES, LABELS.astype(np.uint64)),
    "number": (IMAGES[:5], LABELS[:5]),
}


@pytest.mark.parametrize("part", FINGERPRINTS)
def test_fingerprint(part):
    before = results.fingerprint(IMAGES, LABELS)
    assert results.fingerprint(np.asfortranarray(IMAGES), LABELS.copy()) == before
    assert results.fingerprint(*FINGERPRINTS[part]) != before


def network(name, weight, width=2):
    """A classifier of one layer, all of whose weights are equal."""
    inputs = keras.Input((2, 2, 1), name=f"{name}_pixels")
    x = keras.layers.Flatten(name=f"{name}_flat")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(width, name="head")(x), name=name)
    model.set_weights([np.full_like(w, weight) for w in model.get_weights()])
    return model


class Evaluated:
    """All that an evaluation depends on; `change` changes one part of it."""

    def __init__(self, folder):
        self.folder = folder
        self.prepared = (
            folder / "data" / "cifar10_corrupted" / "fog_1" / "test.tfrecord"
        )
        self.code, self.baseline = folder / "mine.py", folder / "baseline.json"
        for path in (self.prepared, self.code, self.baseline):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("def attack(model, images, labels, eps): return images")
        self.model, self.surrogate = network("a", 1.0), network("b", 1.0)
        self.dataset = Dataset("digits", images_of(1), images_of(0), NAMES)
        self.data_dir = folder / "data"
        self.settings = EvaluationConfig(
            attacks=("mine:attack",),
            baseline=str(self.baseline),
            corruption_source="cifar10_corrupted",
        )

    @property
    def of(self):
        """The arguments of `origin`."""
        settings = self.settings
        return self.model, self.surrogate, self.dataset, settings, self.data_dir

    def change(self, part):
        kind, *path = part.split()
        if kind == "settings":
            # Whatever it means: the key holds all settings as they are.
            values = {"attacks": (), "baseline": "other", "corruption_source": "other"}
            self.settings = dataclasses.replace(self.settings)
            object.__setattr__(self.settings, *path, values.get(path[0], "other"))
        elif kind == "models":
            attribute = ("model", "surrogate")[int(path[0])]
            name = getattr(self, attribute).name
            changes = {"weights": {"weight": 2.0}, "network": {"name": name.upper()}}
            new = {"name": name, "weight": 1.0} | changes[path[1]]
            setattr(self, attribute, network(**new))
        elif kind == "classes":
            self.dataset = dataclasses.replace(self.dataset, class_names=("dog", "cat"))
        elif kind == "images":
            test = CHANGED_IMAGES[path[0] if path else "pixel"](self.dataset.test)
            self.dataset = dataclasses.replace(self.dataset, test=test)
        elif path[0] == "corruptions":
            self.prepared.write_text("longer" * 99)
        else:
            (self.code if ":" in path[0] else self.baseline).write_text("1")


CHANGED_IMAGES = {
    "pixel": brighter,
    "label": relabelled,
    "number": lambda images: images.take(slice(5)),
}
ORIGIN = (
    *(f"settings {field.name}" for field in dataclasses.fields(EvaluationConfig)),
    *(f"models {i} {part}" for i in (0, 1) for part in ("network", "weights")),
    "images",
    "classes",
    "files baseline",
    "files corruptions",
    "files mine:attack",
)


@pytest.fixture
def evaluated(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    yield Evaluated(tmp_path)
    sys.modules.pop("mine", None)


def test_every_part_of_an_origin_is_covered(evaluated):
    assert set(parts(results.origin(*evaluated.of))) == set(ORIGIN)


@pytest.mark.parametrize("part", [*ORIGIN, "images label", "images number"])
def test_origin_of_a_partial_result(part, evaluated):
    """Any change of what it is made from makes a partial result unusable."""
    output, before = evaluated.folder / "result.json", results.origin(*evaluated.of)
    PartialResult(output, *evaluated.of).write({"clean": {}})
    assert PartialResult(output, *evaluated.of).read() == {"clean": {}}
    evaluated.change(part)
    after = results.origin(*evaluated.of)
    key = part.removesuffix(" label").removesuffix(" number")
    assert parts(before)[key] != parts(after).get(key)
    assert PartialResult(output, *evaluated.of).read() == {}


def test_each_part_of_an_origin_is_compared(evaluated):
    now = results.origin(*evaluated.of)
    assert results.changed(json.loads(json.dumps(now)), now) == []
    words = [results.changed({**now, key: "other"}, now) for key in now]
    assert [len(found) for found in words] == [1] * len(now)
    assert len({found[0] for found in words}) == len(now)


@pytest.mark.parametrize("change", ["name", "size", "time", "one more"])
@pytest.mark.parametrize("source", ["cifar10_corrupted", "folder"])
def test_files_of_a_ready_made_set(source, change, evaluated):
    path = evaluated.prepared
    if source == "folder":
        path = evaluated.folder / "fog.npy"
        path.write_text("set")
        source = f"folder:{evaluated.folder}"
    evaluated.settings = dataclasses.replace(
        evaluated.settings, corruption_source=source
    )
    os.utime(path, (1, 1))
    before = results.origin(*evaluated.of)
    if change == "name":
        path.rename(path.with_name("other.npy"))
    elif change == "size":
        path.write_text("another")
        os.utime(path, (1, 1))
    elif change == "time":
        os.utime(path, (2, 2))
    else:
        path.with_name("more.npy").write_text("")
    after = results.origin(*evaluated.of)
    assert results.changed(before, after) == ["the files that its settings name"]


def test_training_images_and_a_moved_folder_do_not_matter(evaluated):
    before = results.origin(*evaluated.of)
    dataset = dataclasses.replace(evaluated.dataset, train=images_of(2))
    moved = evaluated.data_dir.rename(evaluated.folder / "moved")
    evaluated.dataset, evaluated.data_dir = dataset, moved
    assert results.changed(before, results.origin(*evaluated.of)) == []


# What the programs give to `origin`: one change of each of its arguments.
GIVEN = ("settings seed", "models 0 weights", "images", "classes", "files corruptions")


@pytest.mark.parametrize("part", ["", *GIVEN, "models 1 weights"])
def test_train_evaluate_resumes_the_same_only(part, evaluated, binary, monkeypatch):
    resumed, models = [], evaluated.folder

    def evaluate_model(*_, save, done, **rest):
        resumed.append(done)
        save({"clean": {}})
        raise KeyboardInterrupt

    monkeypatch.setattr("inres_tf.evaluation.evaluate_model", evaluate_model)
    monkeypatch.setattr(DataConfig, "load", lambda self: evaluated.dataset)
    for _ in range(2):
        evaluated.model.save(models / "model.keras")
        evaluated.surrogate.save(models / "other.keras")
        flags = {
            "checkpoint": models / "model.keras",
            "transfer_from": models / "other.keras",
            "corruption_source": "cifar10_corrupted",
            "data_dir": evaluated.data_dir,
            "seed": evaluated.settings.seed,
            "output": models / "result.json",
        }
        code, _, err = binary("evaluate", *(f"--{k}={v}" for k, v in flags.items()))
        assert code == 130, err
        if part == "settings seed":
            evaluated.settings = dataclasses.replace(evaluated.settings, seed=1)
        elif part:
            evaluated.change(part)
    assert resumed == [{}, {} if part else {"clean": {}}]


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(part, marks=() if part in ("", "images") else pytest.mark.long)
        for part in ("", *GIVEN)
    ],
)
def test_train_reproduce_keeps_an_evaluation_of_the_same_only(
    part, evaluated, monkeypatch
):
    count = []

    class Evaluations(Exception):
        """Ends a reproduction after its evaluations."""

    def train(config, build):
        evaluated.model.save(f"{config.output_dir}/model.keras")
        return run.TrainResult(None, [], None, None)

    def evaluate_model(*_, **rest):
        count.append(1)
        assert rest == {"data_dir": str(evaluated.data_dir)}
        return {}

    def read_measurements(runs):
        raise Evaluations

    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(DataConfig, "load", lambda self: evaluated.dataset)
    monkeypatch.setattr("inres_tf.evaluation.evaluate_model", evaluate_model)
    monkeypatch.setattr("inres_tf.reporting.read_measurements", read_measurements)
    folder = evaluated.folder / "main"
    (folder / "plain8-seed0").mkdir(parents=True)
    counts = []
    for _ in range(2):
        count.clear()
        settings = TrainConfig(data_dir=str(evaluated.data_dir), output_dir=str(folder))
        evaluating = dataclasses.replace(evaluated.settings, num_examples=0)
        with pytest.raises(Evaluations):
            reproduce.reproduce(
                ReproduceConfig(("plain8",)), settings, evaluating, lambda name: None
            )
        counts.append(len(count))
        if part == "settings seed":
            evaluated.settings = dataclasses.replace(evaluated.settings, seed=1)
        elif part:
            evaluated.change(part)
    assert counts == [1, bool(part)]


# Settings that may change when a run resumes: they do not affect its results.
CHANGEABLE = {"data_dir", "download", "output_dir", "resume", "verbose"}
CHANGEABLE |= {"checkpoint_every", "steps_per_execution", "strategy", "logical_cpus"}
CHANGEABLE |= {"workers", "worker_index", "tpu"}
FIELDS = [field.name for field in dataclasses.fields(TrainConfig)]
SHARED = [name for name in FIELDS if name not in ("model", "seed")]
REPRODUCED = [*SHARED, *(f.name for f in dataclasses.fields(ReproduceConfig))]


class Accepted(Exception):
    """Raised where a run would begin."""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Function that starts a run in a folder whose `config.json` has other flags."""

    def begin(config):
        raise Accepted

    monkeypatch.setattr(run, "make_strategy", begin)
    monkeypatch.setattr("inres_tf.distribution.make_strategy", begin)

    def start(program, changes, dataset="digits", **content):
        settings = TrainConfig(dataset=dataset, output_dir=str(tmp_path / "run"))
        flags = dataclasses.asdict(settings)
        if program == "reproduce":
            config = ReproduceConfig()
            flags |= dataclasses.asdict(config)
            del flags["model"], flags["seed"]
        saved = {k: v for k, v in (flags | changes).items() if v is not ...}
        path = tmp_path / "run" / "config.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"flags": saved} | content))
        if program == "reproduce":
            reproduce.reproduce(config, settings, EvaluationConfig(), lambda name: None)
        run.train(settings, None)

    return start


@pytest.mark.parametrize(
    ("program", "field"),
    [
        *(("train", name) for name in FIELDS),
        *(("reproduce", name) for name in REPRODUCED),
    ],
)
def test_identity_of_a_run(program, field, start):
    """A run is another one if any setting differs that affects its results."""
    with pytest.raises(Accepted):
        start(program, {})
    if field in CHANGEABLE:
        with pytest.raises(Accepted):
            start(program, {field: "other"})
        return
    with pytest.raises(UserError, match=rf"another run \(--{field}=other there, "):
        start(program, {field: "other"})


def test_settings_that_did_not_exist_yet_had_their_defaults(start):
    with pytest.raises(Accepted):
        start("train", {"momentum": ..., "ema": 0.0})
    # The default of this one depends on the recipe.
    with pytest.raises(UserError, match="another run"):
        start("train", {"epochs": ...})


def test_only_folders_whose_images_are_known_may_be_moved(start):
    moved = {"changes": {"dataset": "folder:/old"}, "dataset": "folder:/new"}
    with pytest.raises(Accepted):
        start("train", **moved, images={})
    with pytest.raises(UserError, match="--dataset=folder:/old there, folder:/new now"):
        start("train", **moved)
    with pytest.raises(UserError, match="--dataset=folder:/old there, digits now"):
        start("train", {"dataset": "folder:/old"}, images={})


def data_facts(**changes):
    data = {"training": images_of(0), "validation": images_of(1), "names": NAMES}
    return run_folder.data_facts(**data | changes)


DATA = {
    "a training pixel": {"training": brighter(images_of(0))},
    "a training label": {"training": relabelled(images_of(0))},
    "training number": {"training": images_of(0).take(slice(5))},
    "a validation pixel": {"validation": brighter(images_of(1))},
    "a validation label": {"validation": relabelled(images_of(1))},
    "validation number": {"validation": images_of(1).take(slice(5))},
    "names of the classes": {"names": NAMES[::-1]},
}


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("change", DATA)
def test_images_of_a_run(change, finished, tmp_path, capsys):
    run_folder.write_config(tmp_path, {}, 0, **data_facts())
    run_folder.check_data(tmp_path, data_facts(), finished)
    assert capsys.readouterr().err == ""
    if finished and "validation" in change:
        run_folder.check_data(tmp_path, data_facts(**DATA[change]), finished)
        assert "come from other images" in capsys.readouterr().err
        return
    with pytest.raises(UserError):
        run_folder.check_data(tmp_path, data_facts(**DATA[change]), finished)


@pytest.mark.parametrize("part", parts(data_facts()))
def test_each_fact_about_the_images_is_compared(part, tmp_path):
    facts = data_facts()
    *path, last = part.split()
    inner = saved = json.loads(json.dumps(facts))
    for key in path:
        inner = inner[key]
    inner[last] = ["other"] if last == "class_names" else "other"
    run_folder.write_config(tmp_path, {}, 0, **saved)
    with pytest.raises(UserError):
        run_folder.check_data(tmp_path, facts, False)
