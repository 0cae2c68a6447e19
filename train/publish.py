r"""Adds trained weights to the package, with a card that reports their accuracy.

Writes zoo/weights/MODEL-WEIGHTS.weights.h5, which zoo.get_model(MODEL,
weights=WEIGHTS) loads, and the card MODEL-WEIGHTS.json with its checksum, how it was
trained, and the results of train.evaluate. With --model instead of --checkpoint, adds
results of shipped weights to their card, in place of those that they repeat on as many
images or more.

    python -m train.publish --checkpoint=runs/in_resnet20 --weights=cifar10 \
        --results=clean.json,attacks.json --half
    python -m train.publish --model=in_resnet20 --weights=cifar10 \
        --results=autoattack.json
"""

import hashlib
import io
import json
import pathlib
import re
import shlex
from typing import Any

import numpy as np
from absl import flags

from inres_tf import files, reporting
from inres_tf.digests import of_arrays
from inres_tf.errors import UserError
from inres_tf.training.config import TrainConfig
from inres_tf.training.run_folder import CONFIG
from train import cli, models
from zoo import cards, presets, registry

GROUPS = {
    "weights": "checkpoint model weights results half",
    "card": "dataset_note licence training_command",
    "output": "output_dir",
}

# Flags that say where files are, or how a run was driven.
_LEFT_OUT = ("data_dir", "output_dir", "verbose", "resume", "checkpoint_every")


def define_flags() -> None:
    """Defines the flags of this binary."""
    cli.DEFINE_path("checkpoint", None, "Folder of the run, with its config.json.")
    flags.DEFINE_string(
        "model", None, "Instead of --checkpoint: model whose card gets further results."
    )
    flags.DEFINE_string("weights", None, "Name of the weights, such as cifar10.")
    flags.DEFINE_list(
        "results",
        [],
        "Files of train.evaluate --output for this checkpoint, or for these weights.",
    )
    flags.DEFINE_bool(
        "half", False, "Store float16 numbers. Not for networks with certificates."
    )
    flags.DEFINE_string(
        "dataset_note", "", "How the dataset differs from the published one."
    )
    flags.DEFINE_string("licence", "Apache-2.0", "SPDX identifier of the licence.")
    flags.DEFINE_string(
        "training_command", "", "Command of the training; from config.json by default."
    )
    cli.DEFINE_path(
        "output_dir", None, "Folder of the cards; the package's by default."
    )


def main() -> None:
    """Writes the weights and their card, or adds results to a card."""
    values = flags.FLAGS
    if values.model:
        for name in ("checkpoint", "half", *GROUPS["card"].split()):
            if values[name].present and values[name].value:
                raise UserError(f"--model adds results to a card: leave out --{name}")
    needed = "weights", "results"
    for name in needed if values.model else ("checkpoint", *needed):
        if not getattr(values, name):
            raise UserError(f"--{name} is missing; see --help")
    if not re.fullmatch(r"\w+", values.weights) or values.weights == "imagenet":
        raise UserError(
            "--weights must be a name of letters, digits and underscores other than "
            f"imagenet; got {values.weights!r}"
        )
    if values.model:
        _add_results(values)
    else:
        _publish(values)


def _publish(values) -> None:
    """Writes the weights of a run and their card."""
    run, folder = pathlib.Path(values.checkpoint), _folder(values)
    config = _config(run)
    results = reporting.read_measurements(values.results)
    trained = models.from_checkpoint(run)
    name, shape = config["flags"]["model"], trained.input_shape[1:]
    family = registry.find(name)[0]
    if values.half and isinstance(family, presets.ContinuousFamily):
        raise UserError(
            f"--half would change the certificates of {name}, which depend on its "
            "weights: leave it out"
        )
    _check_complete(results)
    classes = results[0].result["class_names"]
    for result in results:
        if result.result["model"] != name:
            raise UserError(
                f"{result.file} is a result of {result.result['model']}, but "
                f"--checkpoint={run} is a run of {name}"
            )
    _check(results, config["flags"]["dataset"], classes, lambda: trained)
    _check_images(results)
    model = models.builder(name)(shape, len(classes))
    model.set_weights(trained.get_weights())
    file = f"{name}-{values.weights}.weights.h5"
    colours = "RGB" if shape[-1] == 3 else "grey"
    with files.atomic(folder / file) as temporary:
        save_weights(model, temporary, values.half)
        content = temporary.read_bytes()
        # Before the weights are replaced, so that an error leaves the old ones.
        card = {
            "model": name,
            "weights": values.weights,
            "file": file,
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
            "dtype": "float16" if values.half else "float32",
            "parameters": model.count_params(),
            "input_shape": list(shape),
            "fixed_size": isinstance(family, presets.ContinuousFamily),
            "input_format": f"pixels in [0, 255], {colours}, channels last; normalised "
            "inside the model",
            "classes": classes,
            "dataset": {
                "name": config["flags"]["dataset"],
                "note": values.dataset_note,
            },
            "licence": values.licence,
            "training": _training(config, values.training_command),
            **_measured(results, name, values.weights),
        }
    print(f"{len(content):,} bytes -> {folder / file}")
    _write(card, folder)


def _add_results(values) -> None:
    """Adds results of shipped weights to their card."""
    name, weights = values.model, values.weights
    folder = _folder(values)
    models.check(name)
    card = cards.read_cards(folder).get((name, weights))
    if card is None:
        raise UserError(f"{folder} has no card {name}-{weights}.json")
    new = reporting.read_measurements(values.results)
    _check_complete(new)
    own = {f"--model={name}", f"--weights={weights}"}
    for run in new:
        result = run.result
        command = result.get("command", "")
        changed = result["model"] != name or "--preprocessing=" in command
        if changed or not own <= set(shlex.split(command)):
            raise UserError(
                f"{run.file} must be a result of train.evaluate "
                f"{' '.join(sorted(own))}, without --solver and --preprocessing; its "
                f"command is {command or 'unknown'}"
            )
    repeated: dict[tuple, int] = {}
    for run in new:
        for fact, number in _facts(run).items():
            repeated[fact] = max(number, repeated.get(fact, 0))
    old = [
        reporting.measurements.measure(result, folder / card["file"])
        for result in card["evaluations"]
    ]
    kept = [
        run
        for run in old
        if any(number > repeated.get(f, 0) for f, number in _facts(run).items())
    ]

    def shipped():
        classes = len(card["classes"])
        model = models.builder(name)(tuple(card["input_shape"]), classes)
        model.load_weights(folder / card["file"])
        return model

    _check(new, card["dataset"]["name"], card["classes"], shipped)
    _check_images([*kept, *new])
    card = {**card, **_measured([*kept, *new], name, weights)}
    print(f"replaced {len(old) - len(kept)} of {len(old)} results, by {len(new)}")
    _write(card, folder)


def _check_complete(runs) -> None:
    """Checks that results hold all that a card needs."""
    for run in runs:
        missing = [key for key in ("class_names", "checks") if key not in run.result]
        if missing:
            raise UserError(
                f"{run.file} lacks {' and '.join(missing)}: evaluate again with "
                "train.evaluate"
            )


def _check(runs, dataset, classes, load) -> None:
    """Checks that results are of the classes and weights of a card.

    Args:
        runs: the results.
        dataset: name of the dataset.
        classes: names of the classes.
        load: function that returns the model with the weights.
    """
    digests = {run.result.get("weights_fingerprint") for run in runs} - {None}
    own = of_arrays(load().get_weights()) if digests else None
    for run in runs:
        result = run.result
        named = result["dataset"], result.get("class_names")
        if named != (dataset, classes):
            raise UserError(
                f"{run.file} is a result on {named[0]} with the classes {named[1]}, "
                f"but the card is of {dataset} with {classes}"
            )
        if result.get("weights_fingerprint", own) != own:
            raise UserError(
                f"{run.file} is a result of other weights: their fingerprint is "
                f"{result['weights_fingerprint']}, that of the card's {own}"
            )


def _check_images(runs) -> None:
    """Checks that the results of a card of equally many images are of the same."""
    seen: dict[int, str | None] = {}
    for run in runs:
        number, images = run.result["num_examples"], run.result.get("fingerprint")
        if seen.setdefault(number, images) != images:
            raise UserError(
                f"the results of {number} images would be of different images "
                f"(fingerprints {seen[number]} and {images}): repeat all that the card "
                "has, and add them together"
            )


def _folder(values) -> pathlib.Path:
    """The folder of the cards."""
    return pathlib.Path(values.output_dir or cards.FOLDER)


def _facts(run) -> dict[tuple, int]:
    """What a result measured, and on how many images."""
    of = run.result["dataset"], run.result.get("protocol")
    return {(column, *of): run.result["num_examples"] for column in run.accuracies}


def _measured(results, name, weights) -> dict[str, Any]:
    """The part of a card that comes from results."""
    return {
        "summary": _unique(row for result in results for row in summary(result)),
        "raised_checks": sorted(
            {
                check["name"]
                for result in results
                for check in result.result["checks"]
                if check["raised"]
            }
        ),
        "evaluations": [_evaluation(run.result, name, weights) for run in results],
    }


def _write(card, folder) -> None:
    """Writes a card into a folder."""
    path = folder / f"{card['model']}-{card['weights']}.json"
    files.write_json(path, card)
    print(f"card -> {path}")


def _training_command(values) -> str:
    """The command of a training without paths."""
    weights = values.get("weights")
    if weights and weights not in cards.shipped(values["model"]):
        values = {**values, "weights": "FILE"}
    return cli.command("train", values, cli.defaults_of(TrainConfig), _LEFT_OUT)


def _evaluation(result, name, weights) -> dict[str, Any]:
    """A result as a card has it: without images, of the shipped weights."""
    result = {key: value for key, value in result.items() if key != "samples"}
    if "command" in result:
        result["command"] = result["command"].replace(
            "--checkpoint=CHECKPOINT", f"--model={name} --weights={weights}"
        )
    return result


def _unique(rows) -> list[dict[str, Any]]:
    """Rows without repetitions: several results hold the clean accuracy."""
    found: list[dict[str, Any]] = []
    for row in rows:
        if row not in found:
            found.append(row)
    return found


def _config(run) -> dict[str, Any]:
    """Reads the configuration of a run of the zoo."""
    path = run / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        models.check(config["flags"]["model"])
        config["seed"], config["versions"], config["flags"]["epochs"]
    except FileNotFoundError as error:
        raise UserError(f"--checkpoint must be a run's folder: no {path}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged: {error}") from error
    return config


def _training(config, command) -> dict[str, Any]:
    """How the network was trained."""
    machine = config.get("device") or config["machine"]["processor"]
    images = config.get("images")
    return {
        "command": command or _training_command(config["flags"]),
        "revision": config.get("git_revision"),
        "seed": config["seed"],
        "epochs": config["flags"]["epochs"],
        "versions": config["versions"],
        "machine": machine,
        "images": images.get("training") if isinstance(images, dict) else None,
    }


def save_weights(model: Any, path: pathlib.Path, half: bool) -> None:
    """Saves weights as `.weights.h5`.

    Args:
        model: a Keras model.
        path: the file.
        half: whether to round float32 numbers to float16, which Keras reads as well.
    """
    model.save_weights(path)
    if half:
        _round_to_half(path)


def _round_to_half(path):
    """Writes the float32 arrays of an HDF5 file as float16."""
    import h5py

    with (
        # From memory: HDF5 does not free the space of what is replaced.
        h5py.File(io.BytesIO(path.read_bytes()), "r") as full,
        h5py.File(path, "w") as half,
    ):

        def copy(name, item):
            if isinstance(item, h5py.Group):
                half.require_group(name).attrs.update(item.attrs)
            else:
                half[name] = _rounded(name, item[()])

        half.attrs.update(full.attrs)
        full.visititems(copy)


def _rounded(name, array):
    """A float32 array as float16, another one unchanged."""
    if array.dtype != "float32":
        return array
    with np.errstate(over="ignore"):
        half = array.astype("f2")
    if np.isinf(half[np.isfinite(array)]).any():
        raise UserError(
            f"--half: {name} holds {np.nanmax(np.abs(array)):g}, too large for "
            "float16: leave it out"
        )
    return half


def summary(run: reporting.EvaluatedRun) -> list[dict[str, Any]]:
    """Returns the accuracies of an evaluation with 95% Wilson intervals.

    Args:
        run: a result file.
    """
    rows = []
    for column, accuracy in run.accuracies.items():
        if column.group in ("severity", "mCE", "certified_curve"):
            continue
        number = run.result["num_examples"]
        low, high = reporting.statistics.wilson(accuracy * number, number)
        rows.append(
            {
                "column": column.heading,
                "settings": column.settings,
                "images": number,
                "accuracy": accuracy,
                "low": low,
                "high": high,
            }
        )
    return rows


if __name__ == "__main__":
    define_flags()
    cli.run(main, groups=GROUPS)
