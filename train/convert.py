r"""Converts a checkpoint of the official PyTorch code to a Keras model.

Reads a state dict, `torch.save(network.state_dict(), ...)`, without running code in it.
Needs PyTorch: pip install torch.

    python -m train.convert --official_checkpoint=state.pt --model=in_resnet110 \
        --output=in_resnet110.keras
    python -m train.convert --official_checkpoint=state.pt --model=lambda_in_resnet56 \
        --output=lambda_in_resnet56.weights.h5
"""

import os

from absl import flags

import inres_tf
from inres_tf import files
from inres_tf.errors import UserError
from train import cli, models

GROUPS = {"model": "official_checkpoint model", "output": "output"}


def define_flags() -> None:
    """Defines the flags of this binary."""
    cli.DEFINE_path("official_checkpoint", None, "PyTorch file of a state dict.")
    flags.DEFINE_string("model", "in_resnet110", "Model of the zoo with these weights.")
    cli.DEFINE_path("output", None, "File to write: .keras or .weights.h5.")


def main() -> None:
    """Converts the checkpoint."""
    values = flags.FLAGS
    for name in ("official_checkpoint", "output"):
        if not values[name].value:
            raise UserError(f"--{name} must name a file")
    if not values.output.endswith((".keras", ".weights.h5")):
        raise UserError(
            f"--output must end in .keras or .weights.h5; got {values.output}"
        )
    cli.check_writable(values.output)
    models.check(values.model)
    try:
        state = inres_tf.convert.read_official_checkpoint(values.official_checkpoint)
        biases = [v for k, v in state.items() if k.endswith("fc.bias") and v.ndim == 1]
        classes = len(biases[0]) if biases else 10
        model = models.builder(values.model)((32, 32, 3), classes)
        inres_tf.convert.load_official_state(model, state)
    except (ValueError, ImportError, FileNotFoundError) as error:
        if not os.path.isfile(values.official_checkpoint):  # whatever else is missing
            raise UserError(
                f"--official_checkpoint={values.official_checkpoint} is not a file"
            ) from error
        raise UserError(str(error)) from error
    with files.atomic(values.output) as temporary:
        save = model.save if values.output.endswith(".keras") else model.save_weights
        save(temporary)
    print(f"{values.model}, {classes} classes -> {values.output}")


if __name__ == "__main__":
    define_flags()
    cli.run(main, groups=GROUPS)
