"""The main job: train several models alike, evaluate them, tabulate and report."""

import contextlib
import dataclasses
import json
import pathlib
import time
from collections.abc import Callable

import keras

from inres_tf import (
    checkpoints,
    comparison,
    evaluation,
    gathering,
    report,
    runs,
    strategies,
)
from inres_tf.config import setting
from inres_tf.data import Dataset
from inres_tf.errors import UserError
from inres_tf.layers import damping_rates
from inres_tf.logits import check_classifier
from inres_tf.protocols import EvaluationConfig
from inres_tf.recipes import MAY_CHANGE, TrainConfig
from inres_tf.training import stopped, train


@dataclasses.dataclass(frozen=True)
class ReproduceConfig:
    """Which models and seeds; `train` and `evaluation` hold what is alike for all."""

    models: tuple[str, ...] = setting(
        ("resnet20", "in_resnet20", "lambda_in_resnet20"),
        "Models of the zoo to compare.",
    )
    seeds: tuple[int, ...] = setting(
        (0,), "Seeds; each model is trained once for each."
    )

    def __post_init__(self):
        for name in ("models", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise UserError(
                    f"--{name} must list at least one, each once; got "
                    f"{','.join(map(str, values)) or 'none'}"
                )
        if not all(0 <= seed < 2**31 for seed in self.seeds):
            raise UserError(
                f"--seeds must be in [0, 2^31); got {','.join(map(str, self.seeds))}"
            )


def evaluate_model(
    model, dataset: Dataset, config: EvaluationConfig, progress=True, **rest
) -> dict:
    """Evaluates a model on a dataset's test images.

    Args:
        model: Keras classifier of pixels.
        dataset: whose test images.
        config: what to evaluate.
        progress: whether to show progress bars.
        **rest: more arguments of `evaluation.evaluate`.

    Returns:
        The dict that `train.evaluate --output` writes.
    """
    began = time.time()
    result = {"model": model.name, "dataset": dataset.name}
    try:
        check_classifier(model)
        classes = model.output_shape[-1]
        if classes != len(dataset.class_names):
            raise UserError(
                f"model {model.name} knows {classes} classes and dataset "
                f"{dataset.name} has {len(dataset.class_names)}; give the --dataset it "
                "was trained on"
            )
        result |= evaluation.evaluate(model, dataset.test, config, progress, **rest)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(str(error)) from error
    return result | {
        "lambda": damping_rates(model),
        "class_names": list(dataset.class_names),
        "versions": runs.versions(),
        "git_revision": runs.git_revision(),
        "processor": runs.processor(),
        "seconds": round(time.time() - began, 1),
    }


def reproduce(
    config: ReproduceConfig,
    training: TrainConfig,
    evaluating: EvaluationConfig,
    build_model: Callable,
    command: str = "",
) -> pathlib.Path:
    """Trains and evaluates every model and seed, and writes tables and a report.

    Each run has a folder of its own below `training.output_dir`; what is finished there
    is not done again, so that an interrupted reproduction goes on where it was. Beside
    them stand `results.json`, `results.md`, the plots and `report.html`.

    Args:
        config: models and seeds.
        training: how to train all of them; its model and seed are not used.
        evaluating: how to evaluate all of them.
        build_model: function of a model's name giving what `train` takes.
        command: how this was called, for the report.

    Returns:
        The report's path.

    Raises:
        Stopped: if Ctrl-C or SIGTERM ended a training.
        UserError: for what the user can mend.
    """
    if training.strategy == "multi_worker":
        raise UserError(
            "train.reproduce runs on one machine; with several, give each network to "
            "train.train and train.evaluate"
        )
    folder = pathlib.Path(training.output_dir)
    flags = dataclasses.asdict(training) | dataclasses.asdict(config)
    del flags["model"], flags["seed"]
    runs.check(folder, flags, training.resume, MAY_CHANGE)
    # Before the data, whose reading starts TensorFlow.
    strategy = strategies.make(training)
    dataset = training.load()
    evaluation.check_number(evaluating, dataset.test)
    jobs = [(model, seed) for model in config.models for seed in config.seeds]
    finished, histories = [], {}
    for number, (name, seed) in enumerate(jobs, start=1):
        print(f"[{number}/{len(jobs)}] {name}, seed {seed}", flush=True)
        run = folder / f"{name}-seed{seed}"
        keras.backend.clear_session()
        settings = dataclasses.replace(
            training, model=name, seed=seed, output_dir=str(run), resume=True
        )
        done = train(settings, build_model(name))
        runs.write_config(folder, flags, config.seeds[0])
        stopped(done)
        with strategy.scope():
            _evaluate(run, dataset, evaluating, training.data_dir)
        finished.append(run)
        histories.setdefault(name, done.history)
    (compared,) = comparison.compare(gathering.gather(finished))
    facts = _facts(dataset, compared, config, training, evaluating)
    if command:
        facts["command"] = command
    return _write(folder, dataset, compared, histories, facts)


def _evaluate(run, dataset, evaluating, data_dir) -> None:
    """Writes the run's evaluation, unless it is there with the same settings."""
    path = run / "evaluation.json"
    settings = json.loads(json.dumps(dataclasses.asdict(evaluating)))
    # Absent or damaged, it is made again.
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        if json.loads(path.read_text(encoding="utf-8"))["settings"] == settings:
            return
    model = checkpoints.load_model(run / "model.keras")
    result = evaluate_model(model, dataset, evaluating, data_dir=data_dir)
    result |= {"settings": settings}
    checkpoints.write_text(path, json.dumps(result, indent=2) + "\n")


def _facts(dataset, compared, config, training, evaluating) -> dict[str, str]:
    """What was run where, for the report."""
    first = compared.runs[0].result
    return report.facts_of([compared]) | {
        "data": f"{dataset.name}, {len(dataset.train)} training images, "
        f"{first['num_examples']} of {len(dataset.test)} test images evaluated",
        "training": f"{training.epochs} epochs, batch {training.batch_size}, learning "
        f"rate {training.learning_rate:g}, weight decay {training.weight_decay:g}, "
        f"seeds {', '.join(map(str, config.seeds))}",
        "evaluation": f"{first['protocol']} protocol, iterative attacks of "
        f"{evaluating.steps} steps of {evaluating.step_size:g}/255",
    }


def _write(folder, dataset, compared, histories, facts) -> pathlib.Path:
    """Writes the results, the plots and the report; returns the report's path."""
    listed = [run.result for run in compared.runs]
    checkpoints.write_text(
        folder / "results.json",
        json.dumps({"facts": facts, "results": listed}, indent=2) + "\n",
    )
    title = f"Damped residual networks on {dataset.name}"
    return report.write(folder, "results", title, facts, [compared], histories)
