r"""Evaluates a classifier on clean, corrupted and adversarial images.

Prints a table and writes it as JSON. --checkpoint takes a run's --output_dir, one of
its checkpoints or a .keras file; --model and --weights take a model of the zoo. After
Ctrl-C, finished parts are kept next to --output; rerun the same command to resume.
docs/evaluation.md explains which attacks and corruptions support which claim.
--certify=lipschitz and --certify=smoothing certify L2 radii; an attack that refutes a
certificate is an error.

    python -m train.evaluate --checkpoint=runs/in_resnet20 --dataset=cifar10 \
        --data_dir=DATA --eps=2,4,8 --num_examples=1000 --output=result.json
    python -m train.evaluate --model=in_resnet20 --weights=cifar10 --dataset=cifar10 \
        --data_dir=DATA --attacks=autoattack --corruptions=all --num_examples=1000
"""

import dataclasses
import pathlib

from absl import flags

from inres_tf import distribution, evaluation, files, reporting
from inres_tf.data.dataset import DataConfig
from inres_tf.distribution.config import StrategyConfig, worker_info
from inres_tf.errors import Stopped
from inres_tf.evaluation.config import EvaluationConfig
from train import cli, models

GROUPS = {
    "model": "checkpoint model weights preprocessing import solver",
    "data": "dataset data_dir download image_size num_examples batch_size",
    "attacks": "attacks eps norm steps step_size restarts early_stop autoattack "
    "apgd_steps queries transfer_from",
    "corruptions": "corruptions corruption_source baseline",
    "certificates": "certify certify_radii certify_attack smoothing_sigma "
    "smoothing_samples smoothing_selection smoothing_alpha",
    "protocol": "protocol check_examples seed",
    "distribution": "strategy workers worker_index tpu logical_cpus",
    "output": "output samples",
}

_MODEL_FLAGS = (
    *("checkpoint", "model", "weights", "solver", "preprocessing", "import"),
    "transfer_from",
)


def define_flags() -> None:
    """Defines the flags of this binary."""
    cli.define_flags(DataConfig)
    cli.define_flags(EvaluationConfig)
    cli.define_flags(StrategyConfig)
    cli.define_model_flags()
    cli.DEFINE_path(
        "transfer_from",
        None,
        "Run, checkpoint or .keras file of another model, or MODEL:WEIGHTS for shipped "
        "weights, whose PGD adversarial examples are tried as well.",
    )
    cli.DEFINE_path("output", None, "JSON file for the result.")


def main() -> None:
    """Evaluates the model."""
    data_config = cli.read_flags(DataConfig)
    config = cli.read_flags(EvaluationConfig)
    output = flags.FLAGS.output
    if output:
        cli.check_writable(output, kind=b"{")
    devices = cli.read_flags(StrategyConfig)
    worker = worker_info(devices)
    with distribution.workers.translate_worker_loss(worker):
        strategy = distribution.make_strategy(devices)
        dataset = data_config.load()
        with strategy.scope():
            if worker.count > 1:
                distribution.workers.check_same_settings(dataclasses.asdict(config))
            model = models.from_flags(dataset)
            surrogate = models.surrogate(flags.FLAGS.transfer_from, dataset)
            partial = None
            # Workers share no disk, so that only a single process can resume.
            if output and worker.count == 1 and not files.is_stream(output):
                partial = evaluation.results.PartialResult(
                    output, model, surrogate, dataset, config, data_config.data_dir
                )
            try:
                result = evaluation.evaluate_model(
                    model,
                    dataset,
                    config,
                    progress=worker.chief,
                    data_dir=data_config.data_dir,
                    surrogate=surrogate,
                    done=partial and partial.read(),
                    save=partial.write if partial else None,
                )
            except KeyboardInterrupt as error:
                if not (partial and partial.read()):
                    raise
                raise Stopped(
                    f"interrupted; the same command resumes from {partial.path}",
                    preempted=False,
                ) from error
    if not worker.chief:
        return
    result["command"] = _command(data_config, config)
    if output:
        files.write_json(output, result)
    if partial:
        partial.remove()
    print(reporting.tables.evaluation(result))
    if output:
        print(f"\n-> {output}")


def _command(data_config, config) -> str:
    """The command of an evaluation without paths, which names in capitals replace."""
    values = {name: flags.FLAGS[name].value for name in _MODEL_FLAGS}
    values |= {**vars(data_config), **vars(config)}
    for name in ("checkpoint", "transfer_from", "baseline"):
        if values[name] and not models.shipped_name(str(values[name]))[1]:
            values[name] = name.upper()
    if pathlib.Path(values["weights"] or "").suffix:
        values["weights"] = "FILE"
    defaults = cli.defaults_of(DataConfig, EvaluationConfig)
    return cli.command("evaluate", values, defaults, ("data_dir", "download"))


if __name__ == "__main__":
    define_flags()
    cli.run(main, groups=GROUPS)
