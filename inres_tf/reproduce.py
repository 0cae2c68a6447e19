"""The main job: train several models alike, evaluate them, tabulate and report."""

import dataclasses
import json
import pathlib
import time
from collections.abc import Callable

import keras

from inres_tf import checkpoints, evaluation, plots, report, runs
from inres_tf.config import setting
from inres_tf.data import Dataset
from inres_tf.errors import UserError
from inres_tf.layers import damping_rates, dead_blocks
from inres_tf.training import MAY_CHANGE, TrainConfig, train


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


@dataclasses.dataclass(frozen=True)
class _Whole:
    """All settings of a reproduction, as its `config.json` holds them."""

    models: tuple
    seeds: tuple
    train: TrainConfig
    evaluation: evaluation.EvaluationConfig

    @property
    def seed(self):
        return self.seeds[0]


def evaluate_model(
    model, dataset: Dataset, config: evaluation.EvaluationConfig, progress=True
) -> dict:
    """Evaluates a model on a dataset's test images.

    Args:
        model: Keras classifier of pixels.
        dataset: whose test images.
        config: what to evaluate.
        progress: whether to show progress bars.

    Returns:
        The dict that `train.evaluate --output` writes.
    """
    began = time.time()
    result = {"model": model.name, "dataset": dataset.name}
    try:
        result |= evaluation.evaluate(model, dataset.test, config, progress)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(str(error)) from error
    return result | {
        "lambda": damping_rates(model),
        "versions": runs.versions(),
        "git_revision": runs.git_revision(),
        "processor": runs.processor(),
        "seconds": round(time.time() - began, 1),
    }


def reproduce(
    config: ReproduceConfig,
    training: TrainConfig,
    evaluating: evaluation.EvaluationConfig,
    build_model: Callable,
    command: str = "",
) -> pathlib.Path | None:
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
        The report's path; None if Ctrl-C ended a training.
    """
    folder = pathlib.Path(training.output_dir)
    whole = _Whole(config.models, config.seeds, training, evaluating)
    runs.check(folder, whole, training.resume)
    dataset = training.load()
    jobs = [(model, seed) for model in config.models for seed in config.seeds]
    results: dict[str, list[dict]] = {}
    histories, rates = {}, {}
    for number, (name, seed) in enumerate(jobs, start=1):
        print(f"[{number}/{len(jobs)}] {name}, seed {seed}", flush=True)
        run = folder / f"{name}-seed{seed}"
        keras.backend.clear_session()
        history = _trained(run, name, seed, training, build_model(name))
        runs.write_config(folder, whole)
        if history is None:
            return None
        result = _evaluated(run, dataset, evaluating)
        results.setdefault(name, []).append(result)
        histories.setdefault(name, history)
        rates.setdefault(name, result["lambda"])
    return _write(folder, dataset, results, histories, rates, whole, command)


def _trained(run, name, seed, training, build_model) -> list[dict] | None:
    """The run's history, trained unless it is there; None if interrupted."""
    settings = dataclasses.replace(
        training, model=name, seed=seed, output_dir=str(run), resume=True
    )
    if (run / "model.keras").is_file():
        runs.check(run, settings, True, MAY_CHANGE)
        return runs.read_metrics(run)
    done = train(settings, build_model)
    return None if done.interrupted else done.history


def _evaluated(run, dataset, evaluating) -> dict:
    """The run's evaluation, made unless it is there with the same settings."""
    path = run / "evaluation.json"
    settings = json.loads(json.dumps(dataclasses.asdict(evaluating)))
    if path.is_file():
        result = json.loads(path.read_text())
        if result.get("settings") == settings:
            return result
    model = checkpoints.load_model(run / "model.keras")
    result = evaluate_model(model, dataset, evaluating) | {"settings": settings}
    checkpoints.write_text(path, json.dumps(result, indent=2) + "\n")
    return result


def _write(folder, dataset, results, histories, rates, whole, command):
    first = next(iter(results.values()))[0]
    training = whole.train
    facts = {
        "data": f"{dataset.name}, {len(dataset.train)} training images, "
        f"{first['num_examples']} of {len(dataset.test)} test images evaluated",
        "training": f"{training.epochs} epochs, batch {training.batch_size}, learning "
        f"rate {training.learning_rate:g}, weight decay {training.weight_decay:g}, "
        f"seeds {', '.join(map(str, whole.seeds))}",
        "evaluation": f"{first['protocol']} protocol, iterative attacks of "
        f"{whole.evaluation.steps} steps of {whole.evaluation.step_size:g}/255",
        "machine": runs.processor(),
        "versions": ", ".join(f"{k} {v}" for k, v in runs.versions().items()),
    }
    dead = [
        f"{name} {dead_blocks(found)} of {len(found)}"
        for name, found in rates.items()
        if found
    ]
    if dead:
        facts["damped blocks with λ = 0"] = ", ".join(dead)
    if command:
        facts["command"] = command
    title = f"Damped residual networks on {dataset.name}"
    drawn = report.figures(results, histories, rates)
    for name, figure in drawn.items():
        plots.save(figure, folder / f"{name}.png")
    listed = [result for of_model in results.values() for result in of_model]
    checkpoints.write_text(
        folder / "results.json",
        json.dumps({"facts": facts, "results": listed}, indent=2) + "\n",
    )
    checkpoints.write_text(
        folder / "results.md", report.markdown(title, facts, results)
    )
    path = folder / "report.html"
    checkpoints.write_text(path, report.page(title, facts, results, drawn))
    return path
