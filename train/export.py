"""Writes a SavedModel for serving from a checkpoint.

python -m train.export --checkpoint=runs/in_resnet20 --output=in_resnet20.savedmodel

`serving_default` takes uint8 images of any batch size and gives logits, probabilities
and class_ids; TensorFlow is all that it needs.
"""

from absl import flags

from inres_tf import serving
from inres_tf.errors import UserError
from train import cli, models


def define_flags():
    """Defines the flags of this binary."""
    cli.define_model_flags()
    flags.DEFINE_string("output", None, "Folder of the SavedModel.")
    flags.DEFINE_bool("overwrite", False, "Replace a SavedModel that is there.")


def main():
    """Exports as the flags say."""
    if not flags.FLAGS.output:
        raise UserError("--output must name the folder of the SavedModel")
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
    cli.run(main)
