r"""The main job: trains models alike, evaluates and tabulates them, writes a report.

python -m train.reproduce --dataset=cifar10 --data_dir=DATA \
    --models=resnet110,in_resnet110,lambda_in_resnet110 --seeds=0,1,2 \
    --output_dir=runs/paper

The same command again goes on where an interrupted one was.
"""

import sys

from inres_tf.evaluation.config import EvaluationConfig
from inres_tf.reproduce import ReproduceConfig, reproduce
from inres_tf.training.config import TrainConfig
from train import cli, models


def define_flags():
    """Defines the flags of this binary."""
    cli.define_flags(ReproduceConfig)
    cli.define_flags(TrainConfig, leave_out=("model", "seed"))
    cli.define_flags(EvaluationConfig, leave_out=("batch_size",))


def main():
    """Reproduces as the flags say."""
    config = cli.read_flags(ReproduceConfig)
    training = cli.read_flags(TrainConfig, model="reproduce", seed=config.seeds[0])
    evaluating = cli.read_flags(EvaluationConfig, batch_size=training.batch_size)
    for name in config.models:
        models.check(name)
    command = " ".join(["python -m train.reproduce", *sys.argv[1:]])
    report = reproduce(config, training, evaluating, models.builder, command)
    print(report.with_name("results.md").read_text())
    print(f"report: {report}")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
