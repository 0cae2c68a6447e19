"""A training run: from its settings to its folder, whole or resumed."""

import contextlib
import dataclasses
import functools
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterable

import keras

from inres_tf import plotting
from inres_tf.data.images import Dataset, Images, hold_out
from inres_tf.data.pipeline import TrainingPipeline
from inres_tf.distribution import workers
from inres_tf.distribution.config import WorkerInfo, worker_info
from inres_tf.distribution.strategy import make_strategy
from inres_tf.errors import Stopped, UserError
from inres_tf.files import atomic
from inres_tf.layers import damped_layers, damping_rates
from inres_tf.training import callbacks as callbacks_module
from inres_tf.training import checkpoints, metrics_log, plots, run_folder
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

# Training images on which an objective may measure something after an epoch.
_METRIC_IMAGES = 128


@dataclasses.dataclass
class TrainResult:
    """The result of `train`.

    Attributes:
        model: the trained model, compiled with its optimiser.
        history: a dict of metrics for each epoch, as in `metrics.jsonl`.
        model_path: file of the finished model; None if the run was stopped, or on
            workers other than the chief.
        checkpoint: folder of the newest checkpoint.
        interrupted: whether SIGINT (Ctrl-C) ended the run.
        preempted: whether SIGTERM ended the run.
    """

    model: keras.Model
    history: list[dict]
    model_path: pathlib.Path | None
    checkpoint: pathlib.Path | None
    interrupted: bool = False
    preempted: bool = False


def train(
    config: TrainConfig,
    build_model: Callable[[tuple, int], keras.Model],
    callbacks: Iterable[keras.callbacks.Callback] = (),
) -> TrainResult:
    """Trains a model as `config` says, and writes a run's folder.

    The folder holds `config.json`, `metrics.jsonl`, `checkpoints/`, `tensorboard/`,
    `curves.png`, `lambda.png` (for damped networks) and at the end `model.keras`. Only
    the chief of several workers writes it.

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
    """
    worker = worker_info(config)
    signals = Signals(alone=worker.count == 1)
    with workers.translate_worker_loss(worker):
        if worker.count == 1:
            _check_folder(config)
            strategy = make_strategy(config)
            return _train(config, worker, strategy, signals, build_model, callbacks)
        if config.verbose:
            print(f"{worker} waits for the others", file=sys.stderr, flush=True)
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
    )


def _check_workers(config, worker: WorkerInfo, strategy) -> None:
    """Raises UserError on all workers if their settings differ or the folder is taken."""
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


@dataclasses.dataclass(frozen=True)
class _Data:
    """The images of a run.

    Attributes:
        dataset: what was loaded.
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
    if config.batch_size // replicas % config.accumulate_steps:
        raise UserError(
            f"--accumulate_steps={config.accumulate_steps} does not divide the "
            f"{config.batch_size // replicas} images of a device"
        )
    return _Data(dataset, training, validation, pipeline)


class _Checkpointer:
    """Writes and restores the checkpoints of a run.

    Attributes:
        newest: folder of the newest checkpoint; None on workers other than the chief.
    """

    def __init__(self, folder: pathlib.Path, worker: WorkerInfo):
        self.folder, self.worker = folder, worker
        self.newest: pathlib.Path | None = None

    def save(self, loop: Loop) -> None:
        """Writes a checkpoint and the metrics, on the chief."""
        if self.worker.chief:
            self.newest = checkpoints.save(
                self.folder / "checkpoints",
                loop.model,
                dataclasses.asdict(loop.state),
                loop.steps_done,
            )
            run_folder.write_metrics(self.folder, loop.state.history)

    def restore(self) -> tuple[keras.Model, State] | None:
        """The model and state of the newest checkpoint; None if there is none."""
        if self.worker.chief:
            self.newest = checkpoints.newest(self.folder / "checkpoints")
        with contextlib.ExitStack() as stack:
            path = self.newest
            if self.worker.count > 1:
                payload = checkpoints.pack(path) if path else b""
                payload = workers.broadcast(payload)
                temporary = stack.enter_context(tempfile.TemporaryDirectory())
                path = payload and checkpoints.unpack(payload, pathlib.Path(temporary))
            if not path:
                return None
            keys = [field.name for field in dataclasses.fields(State)]
            model, state = checkpoints.restore(path, keys)
            return model, State(**state)


def _train(config, worker, strategy, signals, build_model, callbacks) -> TrainResult:
    """Trains on one of the workers."""
    folder = pathlib.Path(config.output_dir)
    data = _load_data(config, strategy.num_replicas_in_sync)
    # Under the scope all workers do the same: what the chief does alone, saving and
    # logging, stays outside.
    with strategy.scope():
        finished = _is_finished(folder, worker)
    if finished:
        return _finished_result(folder, worker)
    checkpointer = _Checkpointer(folder, worker)
    steps = config.epochs * data.pipeline.steps_per_epoch
    schedule = learning_rate(
        config.schedule, config.learning_rate, steps, config.warmup
    )
    with strategy.scope():
        model, state = checkpointer.restore() or (
            _new_model(config, build_model, data.dataset, schedule),
            State(),
        )
        replicas = strategy.num_replicas_in_sync
        synchronize_batch_norm(model, config.sync_batch_norm and replicas > 1)
        spread_seeds(model, strategy)
        objective = make_objective(config)
        damping = _damping_schedule(config, model, steps)
        shown = data.training.take(slice(_METRIC_IMAGES))
        plan = Plan(
            learning_rate=schedule,
            damping=damping,
            save=checkpointer.save,
            metrics=functools.partial(
                objective.metrics, model, shown.images, shown.labels
            ),
            checkpoint_every=config.checkpoint_every,
            steps_per_execution=config.steps_per_execution,
        )
        loop = Loop(
            model,
            strategy,
            step=_make_step(config, model, strategy, objective),
            pipeline=data.pipeline,
            validation=data.validation,
            plan=plan,
            signals=signals,
            state=state,
        )
    if worker.chief:
        run_folder.write_config(folder, dataclasses.asdict(config), config.seed)
    callbacks = [*callbacks, *_callbacks(config, folder, worker, loop, objective)]
    # Several workers have the signals in scope from the start.
    with signals if worker.count == 1 else contextlib.nullcontext():
        loop.run(config.epochs, callbacks)
    finished = model.stop_training or loop.state.epoch >= config.epochs
    path = _finish(config, folder, worker, loop) if finished else None
    interrupted, preempted = (s and not finished for s in signals.global_stop)
    return TrainResult(
        model, loop.state.history, path, checkpointer.newest, interrupted, preempted
    )


def _is_finished(folder, worker) -> bool:
    """Whether the run is finished already, which the chief knows."""
    finished = (folder / "model.keras").is_file()
    if worker.count > 1:
        finished = workers.broadcast(bytes([finished])) != bytes([0])
    return finished


def _finished_result(folder, worker) -> TrainResult:
    if not worker.chief:
        return TrainResult(None, [], None, None)
    path = folder / "model.keras"
    print(f"{folder} is finished already", file=sys.stderr)
    saved = checkpoints.list_checkpoints(folder / "checkpoints")
    return TrainResult(
        checkpoints.load_model(path),
        metrics_log.read(folder / run_folder.METRICS),
        path,
        saved[-1] if saved else None,
    )


def _new_model(config, build_model, dataset, schedule) -> keras.Model:
    """A compiled model with the initial weights of the run's seed."""
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


def _damping_schedule(config, model, steps) -> LambdaSchedule:
    if config.lambda_schedule != "learn" and not damped_layers(model):
        raise UserError(
            f"--lambda_schedule={config.lambda_schedule} needs damped blocks, and "
            f"{config.model} has none with a trainable λ"
        )
    return LambdaSchedule(config.lambda_schedule, steps)


def _make_step(config, model, strategy, objective: Objective):
    return make_step(
        model,
        strategy,
        objective,
        config.weight_decay,
        accumulate_steps=config.accumulate_steps,
        rematerialize=config.rematerialize,
        plan_rates=config.lambda_schedule != "learn",
        seed=config.seed,
    )


def _callbacks(config, folder, worker, loop, objective) -> list:
    """The run's own Keras callbacks."""
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


def _finish(config, folder, worker, loop) -> pathlib.Path | None:
    """Writes the model and its plots, and returns the model's path."""
    model, history = loop.model, loop.state.history
    synchronize_batch_norm(model, False)
    use_averages(model)
    loop.plan_rates()
    if not worker.chief:
        return None
    name, rates = config.model, damping_rates(model)
    plotting.save(plots.training_curves({name: history}), folder / "curves.png")
    if rates:
        plotting.save(plots.rates_by_depth({name: rates}), folder / "lambda.png")
    # The last thing written: with it the run is finished.
    path = folder / "model.keras"
    with atomic(path) as temporary:
        model.save(temporary)
    return path


def stopped(result: TrainResult) -> None:
    """Raises Stopped if a signal ended the run."""
    if result.interrupted or result.preempted:
        raise Stopped(
            f"{'preempted' if result.preempted else 'interrupted'}: "
            f"{result.checkpoint or 'a checkpoint'} is saved, and the same command "
            "resumes from it",
            result.preempted,
        )


def final_metrics(history: list[dict]) -> dict:
    """The row of the epoch whose weights a run left.

    Args:
        history: as in `TrainResult`, of at least one epoch.
    """
    return [row for row in history if not row.get("reverted")][-1]
