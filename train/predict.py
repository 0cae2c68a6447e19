r"""Classifies photos with a trained model.

Arguments are image files and folders, which are searched at any depth. Images are
resized if the model takes square images. Prints a table of the most probable classes;
--output writes it as JSON. --checkpoint takes a run's --output_dir, one of its
checkpoints, a .keras file or a SavedModel of train.export; --model and --weights take a
model of the zoo. Unreadable images are reported and skipped, and the
exit code is then 1. Ctrl-C keeps the finished predictions.

    python -m train.predict --checkpoint=runs/photos photo.jpg folder/
    python -m train.predict --model=in_resnet20 --weights=cifar10 --top=3 photo.jpg \
        --output=predictions.json
"""

from __future__ import annotations

import pathlib
import sys
from typing import Any

from absl import flags

from inres_tf import files, markdown, serving
from inres_tf.errors import UserError
from inres_tf.serving.config import PredictConfig
from train import cli, models

GROUPS = {
    "model": "checkpoint model weights preprocessing import solver",
    "output": "top output batch_size",
}


def define_flags() -> None:
    """Defines the flags of this binary."""
    cli.define_model_flags()
    cli.define_flags(PredictConfig)
    cli.DEFINE_path("output", None, "JSON file for the predictions.")


def classifier_from_flags() -> serving.ImageClassifier:
    """Loads the model selected by flags, which may also be a SavedModel."""
    values = flags.FLAGS
    path = pathlib.Path(values.checkpoint or "")
    if values.checkpoint and (path / "saved_model.pb").is_file():
        for name in ("model", "weights", "solver", "preprocessing", "import"):
            if values[name].value:
                raise UserError(f"--{name} does not apply to the SavedModel {path}")
        return serving.ImageClassifier.of_saved_model(path)
    try:
        return serving.ImageClassifier.of_model(models.from_flags())
    except ValueError as error:
        raise UserError(str(error)) from error


def table(predictions: list[dict[str, Any]]) -> str:
    """Returns predictions as a markdown table, with probabilities in per cent."""
    header, rows = ["image", "class", "probability", "next"], []
    for prediction in predictions:
        (name, value), *others = [
            (entry["class"], markdown.percent([entry["probability"]]))
            for entry in prediction["top"]
        ]
        following = ", ".join(f"{name} {value}" for name, value in others)
        rows.append([prediction["image"], name, value, following])
    return markdown.table(header, rows)


def main(arguments: list[str]) -> int:
    """Classifies the images; returns the exit code."""
    config, output = cli.read_flags(PredictConfig), flags.FLAGS.output
    if not arguments:
        raise UserError("name at least one image or folder to classify")
    if output:
        cli.check_writable(output, kind=b"{")
    interrupted = False
    try:
        result = serving.predict(classifier_from_flags(), arguments, config)
    except serving.PredictionsInterrupted as interrupt:
        result, interrupted = interrupt.result, True
    if result["predictions"]:
        print(table(result["predictions"]), flush=True)
    for failure in result["failed"]:
        print(f"train.predict: {failure['error']}", file=sys.stderr)
    if output:
        files.write_json(output, result)
    if interrupted:
        number = len(result["predictions"])
        print(f"train.predict: interrupted after {number} predictions", file=sys.stderr)
        return 130
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    define_flags()
    cli.run(main, positional=True, groups=GROUPS)
