"""The main job: train several models the same way, evaluate them, compare, report."""

import dataclasses
import json
import pathlib
from collections.abc import Callable

from inres_tf import distribution, evaluation, files, reporting, training
from inres_tf.config import Config, config_field
from inres_tf.errors import UserError
from inres_tf.evaluation.config import EvaluationConfig
from inres_tf.training.config import CHANGEABLE_ON_RESUME, TrainConfig


@dataclasses.dataclass(frozen=True)
class ReproduceConfig(Config):
    """Which models and seeds; they share a `TrainConfig` and an `EvaluationConfig`."""

    models: tuple[str, ...] = config_field(
        ("resnet20", "in_resnet20", "lambda_in_resnet20"),
        "Models of the zoo to compare.",
    )
    seeds: tuple[int, ...] = config_field(
        (0,),
        "Seeds, such as 0,1,2 or 0-2; each model is trained once for each.",
        bounds="[0, 2147483647]",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("models", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise UserError(
                    f"--{name} must list at least one, each once; got "
                    f"{','.join(map(str, values)) or 'none'}"
                )


def reproduce(
    config: ReproduceConfig,
    train_config: TrainConfig,
    evaluation_config: EvaluationConfig,
    build_model: Callable[[str], Callable],
    command: str = "",
) -> pathlib.Path:
    """Trains and evaluates every model and seed, and writes tables and a report.

    Each run has its own folder below `train_config.output_dir`. What is finished there
    is not repeated, so that an interrupted reproduction resumes. Next to the runs are
    `results.json`, `results.md`, the plots and `report.html`.

    Args:
        config: models and seeds.
        train_config: how to train all of them; its model and seed are not used.
        evaluation_config: how to evaluate all of them.
        build_model: function of a model's name that returns what `train` takes.
        command: the command line, for the report.

    Returns:
        The report's path.

    Raises:
        Stopped: if Ctrl-C or SIGTERM ended a training.
        UserError: for mistakes and circumstances that the user can correct.
    """
    import keras  # which takes seconds, and `ReproduceConfig` does not need it

    if train_config.strategy == "multi_worker":
        raise UserError(
            "train.reproduce runs on one machine; with several, run each network with "
            "train.train and train.evaluate"
        )
    folder = pathlib.Path(train_config.output_dir)
    flags = dataclasses.asdict(train_config) | dataclasses.asdict(config)
    del flags["model"], flags["seed"]
    fields = (*dataclasses.fields(train_config), *dataclasses.fields(config))
    training.run_folder.check_folder(
        folder,
        flags,
        train_config.resume,
        CHANGEABLE_ON_RESUME,
        {field.name: field.default for field in fields},
    )
    # Before the data, whose reading starts TensorFlow.
    strategy = distribution.make_strategy(train_config)
    dataset = train_config.load()
    evaluation.validation.check_number(evaluation_config, dataset.test)
    jobs = [(model, seed) for model in config.models for seed in config.seeds]
    finished: list[pathlib.Path] = []
    histories: dict[str, list[dict]] = {}
    with files.lock(folder):
        for number, (name, seed) in enumerate(jobs, start=1):
            print(f"[{number}/{len(jobs)}] {name}, seed {seed}", flush=True)
            run = folder / f"{name}-seed{seed}"
            keras.backend.clear_session()
            run_config = dataclasses.replace(
                train_config, model=name, seed=seed, output_dir=str(run), resume=True
            )
            result = training.train(run_config, build_model(name))
            _write_config(folder, flags, config, evaluation_config)
            training.stopped(result)
            with strategy.scope():
                _evaluate(run, dataset, evaluation_config, train_config.data_dir)
            finished.append(run)
            histories.setdefault(name, result.history)
        runs = reporting.read_measurements(finished)
        (comparison,) = reporting.compare(runs)
        facts = _facts(dataset, comparison, config, train_config, evaluation_config)
        if command:
            facts["command"] = command
        return _write(folder, dataset, comparison, histories, facts)


def _write_config(folder, flags, config, evaluation_config) -> None:
    """Writes the settings; those of the evaluation may differ from an earlier call."""
    training.run_folder.write_config(folder, flags, config.seeds[0])
    path = folder / training.run_folder.CONFIG
    content = json.loads(path.read_text(encoding="utf-8"))
    evaluated = {"evaluation": dataclasses.asdict(evaluation_config)}
    files.write_json(path, content | evaluated)


def _evaluate(run, dataset, config, data_dir) -> None:
    """Writes the run's evaluation, unless it exists and nothing of it has changed."""
    path = run / "evaluation.json"
    model = training.checkpoints.load_model(run / "model.keras")
    origin = evaluation.results.origin(model, None, dataset, config, data_dir)
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        made_from = {"settings": earlier["settings"], **earlier.get("origin", {})}
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        print(f"{path} is damaged: evaluating again", flush=True)
    else:
        changed = evaluation.results.changed(made_from, origin)
        if not changed:
            return
        print(f"{path} is replaced: {', '.join(changed)} changed", flush=True)
    result = evaluation.evaluate_model(model, dataset, config, data_dir=data_dir)
    result["settings"] = origin.pop("settings")
    files.write_json(path, result | {"origin": origin})


def _facts(
    dataset, comparison, config, train_config, evaluation_config
) -> dict[str, str]:
    """What was computed, how and where, for the report."""
    first = comparison.runs[0].result
    return reporting.html.facts_of([comparison]) | {
        "data": f"{dataset.name}, {len(dataset.train)} training images, "
        f"{first['num_examples']} of {len(dataset.test)} test images evaluated",
        "training": f"{train_config.epochs} epochs, batch {train_config.batch_size}, "
        f"learning rate {train_config.learning_rate:g}, weight decay "
        f"{train_config.weight_decay:g}, seeds {', '.join(map(str, config.seeds))}",
        "evaluation": f"{first['protocol']} protocol, iterative attacks of "
        + _steps(evaluation_config),
    }


def _steps(config) -> str:
    """Number and size of the steps of iterative attacks."""
    sizes = sorted({config.step_of(eps) for eps in config.eps})
    return f"{config.steps} steps of " + ", ".join(f"{size:g}/255" for size in sizes)


def _write(folder, dataset, comparison, histories, facts) -> pathlib.Path:
    """Writes the results, the plots and the report; returns the report's path."""
    results = [run.result for run in comparison.runs]
    files.write_json(folder / "results.json", {"facts": facts, "results": results})
    title = f"Damped residual networks on {dataset.name}"
    return reporting.html.write(
        folder, "results", title, facts, [comparison], histories
    )
