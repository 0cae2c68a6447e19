r"""Trains a model of the zoo.

The defaults follow the protocol of the paper; --recipe=fast changes them. Rerun the
same command to resume from the last checkpoint. Exit codes: 0 finished, 1 error, 2
invalid flags, 69 another worker was lost, 75 stopped by SIGTERM or SIGHUP, 130 stopped
by Ctrl-C; the last two after writing a checkpoint.

    python -m train.train --model=in_resnet20 --dataset=cifar10 --data_dir=DATA \
        --epochs=160 --output_dir=runs/in_resnet20
    python -m train.train --model=in_resnet20 --weights=cifar10 \
        --dataset=folder:photos --image_size=32 --recipe=fast --output_dir=runs/photos
"""

from inres_tf import training
from inres_tf.training.config import TrainConfig
from train import cli, models

GROUPS = {
    "model": "model weights lambda_schedule",
    "data": "dataset data_dir download image_size augmentation validation_fraction",
    "optimisation": "recipe epochs batch_size learning_rate schedule warmup momentum "
    "nesterov weight_decay label_smoothing ema early_stopping",
    "objective": "objective adversary_eps adversary_steps adversary_step_size "
    "trades_beta noise_std margin_offset margin_temperature margin_annealing",
    "speed and memory": "precision accumulate_steps rematerialize steps_per_execution",
    "distribution": "strategy workers worker_index tpu logical_cpus sync_batch_norm",
    "run and output": "output_dir seed resume checkpoint_every verbose",
}


def main() -> None:
    """Trains the model."""
    config = cli.read_flags(TrainConfig)
    models.check(config.model)
    result = training.train(config, models.initial(config.model, config.weights))
    training.stopped(result)
    if not result.model_path:  # not the chief worker
        return
    last = training.final_metrics(result.history)
    if last["lambda"]:
        print(f"λ = 0 in {last['dead_blocks']} of {len(last['lambda'])} damped blocks")
    print(f"accuracy {100 * last['val_accuracy']:.1f}% -> {result.model_path}")


if __name__ == "__main__":
    cli.define_flags(TrainConfig)
    cli.run(main, groups=GROUPS)
