r"""Trains several models the same way, evaluates and compares them, writes a report.

Each run has its own folder below --output_dir, and the report is beside them. Rerun the
same command to resume after an interruption.

    python -m train.reproduce --dataset=cifar10 --data_dir=DATA \
        --models=resnet110,in_resnet110,lambda_in_resnet110 --seeds=0,1,2 \
        --output_dir=runs/paper
    python -m train.reproduce --models=resnet20,in_resnet20 --epochs=24 \
        --batch_size=64 --learning_rate=0.02 --output_dir=runs/digits
"""

import sys

from inres_tf import reporting
from inres_tf.evaluation.config import EvaluationConfig
from inres_tf.reproduce import ReproduceConfig, reproduce
from inres_tf.training.config import TrainConfig
from train import cli, evaluate, models, train

GROUPS = {"models": "models seeds", **train.GROUPS}
_OUTPUT = GROUPS.pop("run and output")
GROUPS |= {h: names for h, names in evaluate.GROUPS.items() if h not in GROUPS}
GROUPS |= {"data": f"{GROUPS['data']} num_examples", "output": f"{_OUTPUT} samples"}


def define_flags() -> None:
    """Defines the flags of this binary."""
    cli.define_flags(ReproduceConfig)
    cli.define_flags(TrainConfig, leave_out=("model", "seed", "weights"))
    cli.define_flags(EvaluationConfig, leave_out=("batch_size",))


def main() -> None:
    """Trains, evaluates and compares the models."""
    config = cli.read_flags(ReproduceConfig)
    train_config = cli.read_flags(
        TrainConfig, weights=None, model="reproduce", seed=config.seeds[0]
    )
    evaluation_config = cli.read_flags(
        EvaluationConfig, batch_size=train_config.batch_size
    )
    for name in config.models:
        models.check(name, "--models")
    command = " ".join(["python -m train.reproduce", *sys.argv[1:]])
    report = reproduce(config, train_config, evaluation_config, models.builder, command)
    # In the order of --models, as in the report.
    runs = [
        report.parent / f"{model}-seed{seed}"
        for model in config.models
        for seed in config.seeds
    ]
    (comparison,) = reporting.compare(reporting.read_measurements(runs))
    headline, *_ = reporting.verdicts.verdict(comparison)
    print(f"\n{reporting.tables.summary(comparison)}\n\n{headline}\n")
    print(f"tables: {report.with_name('results.md')}")
    print(f"report: {report}")


if __name__ == "__main__":
    define_flags()
    cli.run(main, groups=GROUPS)
