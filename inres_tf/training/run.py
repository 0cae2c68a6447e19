"""A training run: from its settings to its folder."""

import contextlib
import dataclasses
import functools
import pathlib
import sys
from collections.abc import Callable, Iterable
from typing import Any

import keras
import tensorflow as tf

from inres_tf import class_names, plotting
from inres_tf.data.images import Dataset, Images, hold_out
from inres_tf.data.pipeline import TrainingPipeline
from inres_tf.distribution import workers
from inres_tf.distribution.config import WorkerInfo, worker_info
from inres_tf.distribution.strategy import make_strategy
from inres_tf.environment import warn_if_emulated
from inres_tf.errors import Stopped, UserError
from inres_tf.files import atomic, lock
from inres_tf.layers import damped_layers, damping_rates, tighten
from inres_tf.training import callbacks as callbacks_module
from inres_tf.training import checkpoints, metrics_log, plots, run_folder
from inres_tf.training.checkpointer import Checkpointer
from inres_tf.training.config import (
    CHANGEABLE_ON_RESUME,
    PER_WORKER,
    PRECISIONS,
    TrainConfig,
)
from inres_tf.training.loop import Loop, Plan, State
from inres_tf.training.objectives.base import Objective
from inres_tf.training.objectives.registry import make_objective
from inres_tf.training.schedules import LambdaSchedule, learning_rate
from inres_tf.training.signals import Signals
from inres_tf.training.step import make_step, spread_seeds, synchronize_batch_norm
from inres_tf.training.weight_averaging import use_averages

# Number of training images that the objective's metrics are computed on.
_METRIC_IMAGES = 128

_BuildModel = Callable[[tuple[int, int, int], int], keras.Model]


@dataclasses.dataclass
class TrainResult:
    """The result of `train`.

    Attributes:
        model: the trained model, compiled with its optimiser; None if the run had
            already finished, on workers other than the chief.
        history: a dict of metrics for each epoch, as in `metrics.jsonl`.
        model_path: file of the finished model; None if the run was stopped, or on
            workers other than the chief.
        checkpoint: folder of the newest checkpoint; None on workers other than the
            chief.
        interrupted: whether SIGINT (Ctrl-C) ended the run.
        preempted: whether SIGTERM or SIGHUP ended the run.
    """

    model: keras.Model
    history: list[dict[str, Any]]
    model_path: pathlib.Path | None
    checkpoint: pathlib.Path | None
    interrupted: bool = False
    preempted: bool = False


def train(
    config: TrainConfig,
    build_model: Callable[[tuple[int, int, int], int], keras.Model],
    callbacks: Iterable[keras.callbacks.Callback] = (),
) -> TrainResult:
    """Trains a model as `config` says, and writes a run's folder.

    The folder holds `config.json`, `metrics.jsonl`, `checkpoints/`, `tensorboard/`,
    `curves.png`, `lambda.png` (for damped networks) and, once finished, `model.keras`.
    If it holds checkpoints of the same run, training resumes from the newest one. Only
    the chief of several workers writes files.

    At the end, the norms that Lipschitz layers estimate are set to their upper bounds
    (`inres_tf.layers.tighten`), which the checkpoints and metrics of epochs precede.

    Args:
        config: the run's settings.
        build_model: function of (input shape, number of classes) that builds a
            classifier of uint8 pixels.
        callbacks: Keras callbacks, in addition to those of the run.

    Returns:
        The trained model and its metrics.

    Raises:
        UserError: for mistakes and circumstances that the user can correct.
        OSError: if a file cannot be written.
        WorkerLost: if another worker is lost.

    Example:
        >>> import zoo
        >>> from inres_tf import training
        >>> def build_model(shape, classes):
        ...     return zoo.InResNet8(input_shape=shape, classes=classes)
        >>> config = training.TrainConfig(
        ...     model="in_resnet8", epochs=1, output_dir="run", verbose=0
        ... )
        >>> result = training.train(config, build_model)
        >>> result.model_path.name, len(result.history)
        ('model.keras', 1)
    """
    worker = worker_info(config)
    signals = Signals(alone=worker.count == 1)
    with workers.translate_worker_loss(worker):
        if worker.count == 1:
            _check_folder(config)
            strategy = make_strategy(config)
            return _train(config, worker, strategy, signals, build_model, callbacks)
        if config.verbose:
            print(f"{worker} is waiting for the others", file=sys.stderr, flush=True)
        strategy = make_strategy(config)
        # Only now, since TensorFlow has just installed a handler of its own.
        with signals:
            _check_workers(config, worker, strategy)
            return _train(config, worker, strategy, signals, build_model, callbacks)


def _check_folder(config: TrainConfig) -> None:
    """Raises UserError if the run's folder holds another run."""
    run_folder.check_folder(
        pathlib.Path(config.output_dir),
        dataclasses.asdict(config),
        config.resume,
        CHANGEABLE_ON_RESUME,
        {field.name: field.default for field in dataclasses.fields(config)},
    )


def _check_workers(
    config: TrainConfig, worker: WorkerInfo, strategy: tf.distribute.Strategy
) -> None:
    """Raises UserError if the workers' settings differ or the folder is not free."""
    problem = ""
    if worker.chief:
        try:
            _check_folder(config)
        except UserError as error:
            problem = str(error)
    settings = dataclasses.asdict(config)
    shared = {k: v for k, v in settings.items() if k not in PER_WORKER}
    with strategy.scope():
        workers.check_same_settings(shared, problem)


def _train(
    config: TrainConfig,
    worker: WorkerInfo,
    strategy: tf.distribute.Strategy,
    signals: Signals,
    build_model: _BuildModel,
    callbacks: Iterable[keras.callbacks.Callback],
) -> TrainResult:
    """Trains on this worker."""
    folder = pathlib.Path(config.output_dir)
    warn_if_emulated(config.precision, strategy.extended.worker_devices)
    data = _load_data(config, strategy.num_replicas_in_sync)
    # All workers must do the same under the strategy's scope. What only the chief does,
    # saving and logging, stays outside.
    with strategy.scope():
        finished = _is_finished(folder, worker)
    with contextlib.ExitStack() as stack:
        facts = _claim_folder(config, worker, strategy, data, finished, stack)
        if finished:
            return _finished_result(folder, worker)
        checkpointer = Checkpointer(folder, worker)
        objective = make_objective(config)
        with strategy.scope():
            loop = _make_loop(
                config, data, strategy, objective, signals, checkpointer, build_model
            )
        if worker.chief:
            run_folder.write_config(
                folder, dataclasses.asdict(config), config.seed, **facts
            )
        callbacks = [
            *callbacks,
            *_make_callbacks(config, folder, worker, loop, objective),
        ]
        # With several workers, the signals are in scope from the start.
        with signals if worker.count == 1 else contextlib.nullcontext():
            loop.run(config.epochs, callbacks)
        finished = loop.model.stop_training or loop.state.epoch >= config.epochs
        interrupted, preempted = signals.global_stop
        return TrainResult(
            model=loop.model,
            history=loop.state.history,
            model_path=_finish(config, folder, worker, loop) if finished else None,
            checkpoint=checkpointer.newest,
            interrupted=interrupted and not finished,
            preempted=preempted and not finished,
        )


def _claim_folder(
    config: TrainConfig,
    worker: WorkerInfo,
    strategy: tf.distribute.Strategy,
    data: "_Data",
    finished: bool,
    stack: contextlib.ExitStack,
) -> dict[str, Any]:
    """Checks that the folder is of these images; the chief keeps it for itself.

    Returns:
        What `config.json` says of the images.
    """
    folder, problem = pathlib.Path(config.output_dir), ""
    facts = run_folder.data_facts(
        data.training, data.validation, data.dataset.class_names
    )
    if worker.chief:
        try:
            if not finished:
                stack.enter_context(lock(folder))
                _check_folder(config)  # once more, now that nobody else writes there
            run_folder.check_data(folder, facts, finished)
        except UserError as error:
            if worker.count == 1:
                raise
            problem = str(error)
    if worker.count > 1:
        with strategy.scope():
            workers.check_same_settings({"dataset": facts}, problem)
    return facts


@dataclasses.dataclass(frozen=True)
class _Data:
    """The images of a run.

    Attributes:
        dataset: the whole dataset.
        training: the images to train on.
        validation: the images to evaluate after each epoch.
        pipeline: batches of the training images.
    """

    dataset: Dataset
    training: Images
    validation: Images
    pipeline: TrainingPipeline


def _load_data(config: TrainConfig, replicas: int) -> _Data:
    dataset = config.load()
    training, validation = dataset.train, dataset.test
    if config.validation_fraction:
        training, validation = hold_out(training, config.validation_fraction)
    augmentation = config.augmentation
    if augmentation == "auto":
        augmentation = dataset.augmentation
    pipeline = TrainingPipeline(training, config.batch_size, augmentation, config.seed)
    pipeline.check_devices(replicas)
    images_per_device = config.batch_size // replicas
    if images_per_device % config.accumulate_steps:
        raise UserError(
            f"--accumulate_steps must divide the {images_per_device} images of each "
            f"device; got {config.accumulate_steps}"
        )
    return _Data(dataset, training, validation, pipeline)


def _is_finished(folder: pathlib.Path, worker: WorkerInfo) -> bool:
    """Returns whether the chief's folder holds a finished run."""
    finished = (folder / "model.keras").is_file()
    if worker.count > 1:
        finished = workers.broadcast(bytes([finished])) != bytes([0])
    return finished


def _finished_result(folder: pathlib.Path, worker: WorkerInfo) -> TrainResult:
    if not worker.chief:
        return TrainResult(None, [], None, None)
    path = folder / "model.keras"
    print(f"{folder} is already finished", file=sys.stderr)
    saved = checkpoints.list_checkpoints(folder / "checkpoints")
    try:
        model = checkpoints.load_model(path)
        history = metrics_log.read(folder / run_folder.METRICS)
    except (UserError, FileNotFoundError) as error:
        if not saved:
            raise
        raise UserError(
            f"{error}; delete {path}, and the same command writes it and "
            f"{run_folder.METRICS} again from the last checkpoint"
        ) from error
    return TrainResult(model, history, path, saved[-1] if saved else None)


def _make_loop(
    config: TrainConfig,
    data: _Data,
    strategy: tf.distribute.Strategy,
    objective: Objective,
    signals: Signals,
    checkpointer: Checkpointer,
    build_model: _BuildModel,
) -> Loop:
    """Creates the loop of a new or resumed run, under the strategy in scope."""
    steps = config.epochs * data.pipeline.steps_per_epoch
    schedule = learning_rate(
        config.schedule, config.learning_rate, steps, config.warmup
    )
    names, restored = data.dataset.class_names, checkpointer.restore()
    if restored:
        model, state = restored
        class_names.check(class_names.of(model), names, "the checkpoint", "--dataset")
    else:
        # Initial weights may be of other classes.
        model = _new_model(config, build_model, data.dataset, schedule)
        state = State()
    class_names.assign(model, names)
    run_folder.check_steps(state.history, data.pipeline.steps_per_epoch)
    several_replicas = strategy.num_replicas_in_sync > 1
    synchronize_batch_norm(model, config.sync_batch_norm and several_replicas)
    spread_seeds(model, strategy)
    metric_images = data.training.take(slice(_METRIC_IMAGES))
    plan = Plan(
        learning_rate=schedule,
        damping=_damping_schedule(config, model, steps),
        save=checkpointer.save,
        metrics=functools.partial(
            objective.metrics, model, metric_images.images, metric_images.labels
        ),
        checkpoint_every=config.checkpoint_every,
        steps_per_execution=config.steps_per_execution,
    )
    step = make_step(
        model,
        strategy,
        objective,
        config.weight_decay,
        accumulate_steps=config.accumulate_steps,
        rematerialize=config.rematerialize,
        plan_rates=config.lambda_schedule != "learn",
        seed=config.seed,
    )
    return Loop(
        model,
        strategy,
        step=step,
        pipeline=data.pipeline,
        validation=data.validation,
        plan=plan,
        signals=signals,
        state=state,
    )


def _new_model(
    config: TrainConfig,
    build_model: _BuildModel,
    dataset: Dataset,
    schedule: keras.optimizers.schedules.LearningRateSchedule,
) -> keras.Model:
    """Builds and compiles a model, with initial weights from the run's seed."""
    keras.utils.set_random_seed(config.seed)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(PRECISIONS[config.precision])
    try:
        model = build_model(dataset.shape, len(dataset.class_names))
    finally:
        keras.config.set_dtype_policy(policy)
    optimizer = keras.optimizers.SGD(
        schedule,
        config.momentum,
        config.nesterov,
        use_ema=config.ema > 0,
        ema_momentum=config.ema or 0.99,
    )
    if config.precision == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(
        optimizer,
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        auto_scale_loss=False,
    )
    optimizer.build(model.trainable_variables)
    return model


def _damping_schedule(
    config: TrainConfig, model: keras.Model, steps: int
) -> LambdaSchedule:
    if config.lambda_schedule != "learn" and not damped_layers(model):
        raise UserError(
            f"--lambda_schedule={config.lambda_schedule} needs damped blocks with a "
            f"trainable λ; {config.model} has none"
        )
    return LambdaSchedule(config.lambda_schedule, steps)


def _make_callbacks(
    config: TrainConfig,
    folder: pathlib.Path,
    worker: WorkerInfo,
    loop: Loop,
    objective: Objective,
) -> list[keras.callbacks.Callback]:
    """Creates the run's own Keras callbacks."""
    history = loop.state.history
    callbacks = objective.callbacks(history)
    if config.early_stopping:
        callbacks.append(
            callbacks_module.ResumableEarlyStopping(history, config.early_stopping)
        )
    if worker.chief:
        callbacks.append(
            callbacks_module.TensorBoard(
                folder / "tensorboard", dataclasses.asdict(config)
            )
        )
    if config.verbose:
        callbacks.append(
            callbacks_module.Progress(
                config.epochs,
                loop.pipeline.steps_per_epoch,
                config.batch_size,
                label=f"[{worker}] " if worker.count > 1 else "",
                live={1: True, 2: False}.get(config.verbose),
            )
        )
    return callbacks


def _finish(
    config: TrainConfig, folder: pathlib.Path, worker: WorkerInfo, loop: Loop
) -> pathlib.Path | None:
    """Finalises the model; on the chief, writes it and its plots."""
    model, history = loop.model, loop.state.history
    synchronize_batch_norm(model, False)
    use_averages(model)
    loop.plan_rates(final_metrics(history)["step"])
    tighten(model)
    if not worker.chief:
        return None
    name, rates = config.model, damping_rates(model)
    plotting.save(plots.training_curves({name: history}), folder / "curves.png")
    if rates:
        plotting.save(plots.rates_by_depth({name: rates}), folder / "lambda.png")
    # Last, since this file marks the run as finished.
    path = folder / "model.keras"
    with atomic(path) as temporary:
        class_names.save(model, temporary)
    return path


def stopped(result: TrainResult) -> None:
    """Raises `Stopped` if a signal ended the run.

    Args:
        result: the result of `train`.

    Raises:
        Stopped: with the newest checkpoint and the signal's exit code.

    Example:
        >>> from inres_tf import training
        >>> result = training.TrainResult(None, [], None, None, interrupted=True)
        >>> training.stopped(result)
        Traceback (most recent call last):
        inres_tf.errors.Stopped: interrupted: a checkpoint is saved, and the same
        command resumes from it
    """
    if result.interrupted or result.preempted:
        raise Stopped(
            f"{'preempted' if result.preempted else 'interrupted'}: "
            f"{result.checkpoint or 'a checkpoint'} is saved, and the same command "
            "resumes from it",
            result.preempted,
        )


def final_metrics(history: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the metrics of the epoch whose weights the model has.

    Args:
        history: a dict of metrics for each epoch, of at least one, as in `TrainResult`.

    Returns:
        Metrics of the last epoch that was not reverted.

    Example:
        >>> from inres_tf import training
        >>> history = [
        ...     {"epoch": 1, "val_accuracy": 0.9},
        ...     {"epoch": 2, "val_accuracy": 0.8, "reverted": True},
        ... ]
        >>> training.final_metrics(history)["epoch"]
        1
    """
    return [row for row in history if not row.get("reverted")][-1]
