r"""Exports a checkpoint as a SavedModel for serving.

`serving_default` takes uint8 images of any batch size and returns logits, probabilities
and class_ids. Serving needs only TensorFlow. If the classes have names,
assets.extra/class_names.json lists them in the order of the ids.

    python -m train.export --checkpoint=runs/in_resnet20 --output=served/1
    python -m train.export --model=in_resnet20 --weights=cifar10 --output=served/2 \
        --overwrite
"""

from absl import flags

from inres_tf import files, serving
from inres_tf.errors import UserError
from train import cli, models

GROUPS = {
    "model": "checkpoint model weights preprocessing import solver",
    "output": "output overwrite",
}


def define_flags() -> None:
    """Defines the flags of this binary."""
    cli.define_model_flags()
    cli.DEFINE_path("output", None, "Folder of the SavedModel.")
    flags.DEFINE_bool("overwrite", False, "Replace an existing SavedModel.")


def main() -> None:
    """Exports the model."""
    if not flags.FLAGS.output:
        raise UserError("--output must name the folder of the SavedModel")
    files.check_creatable(f"{flags.FLAGS.output}/saved_model.pb")
    model = models.from_flags()
    try:
        path = serving.export(model, flags.FLAGS.output, flags.FLAGS.overwrite)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(str(error)) from error
    print(path)


if __name__ == "__main__":
    define_flags()
    cli.run(main, groups=GROUPS)
