r"""Trains a model of the zoo.

python -m train.train --model=in_resnet20 --dataset=cifar10 --data_dir=DATA \
    --epochs=160 --output_dir=runs/in_resnet20

The defaults are the protocol of the paper. Ctrl-C writes a checkpoint; the same command
with --resume goes on from it.
"""

from inres_tf.training import TrainConfig, accuracy_of, train
from train import cli, models


def main():
    """Trains as the flags say."""
    config = cli.read_flags(TrainConfig)
    models.check(config.model)
    result = train(config, models.builder(config.model))
    if result.interrupted:
        print(
            f"Interrupted: {result.checkpoint} is saved; the same command with "
            "--resume goes on from it."
        )
        return 130
    last = result.history[-1]
    if last["lambda"]:
        print(f"λ = 0 in {last['dead_blocks']} of {len(last['lambda'])} damped blocks")
    print(f"accuracy {100 * accuracy_of(result.history):.1f}% -> {result.model_path}")


if __name__ == "__main__":
    cli.define_flags(TrainConfig)
    cli.run(main)
