"""A training run: from its settings to its folder, whole or resumed."""

import contextlib
import dataclasses
import pathlib
import sys
import tempfile
from collections.abc import Callable

import keras

from inres_tf import (
    checkpoints,
    data,
    histories,
    monitoring,
    objectives,
    plots,
    runs,
    schedules,
    strategies,
)
from inres_tf.errors import Stopped, UserError
from inres_tf.layers import damped_layers, damping_rates
from inres_tf.loop import (
    Loop,
    ResumableEarlyStopping,
    Signals,
    State,
    use_averages,
)
from inres_tf.pipeline import TrainingPipeline
from inres_tf.recipes import MAY_CHANGE, OF_ONE_WORKER, PRECISIONS, TrainConfig
from inres_tf.step import make_step, spread_seeds, synchronize_batch_norm

# Training images that an objective may measure something on after an epoch.
_CHECKED_IMAGES = 128


@dataclasses.dataclass
class TrainResult:
    """What `train` leaves.

    Attributes:
        model: the trained model, compiled with its optimiser.
        history: a dict of metrics for each epoch, as in `metrics.jsonl`.
        model_path: file of the finished model; None if stopped, or if this is not the
            chief of several workers.
        checkpoint: folder of the newest checkpoint.
        interrupted: whether Ctrl-C ended the run.
        preempted: whether SIGTERM ended the run.
    """

    model: keras.Model
    history: list[dict]
    model_path: pathlib.Path | None
    checkpoint: pathlib.Path | None
    interrupted: bool = False
    preempted: bool = False


def train(config: TrainConfig, build_model: Callable, callbacks=()) -> TrainResult:
    """Trains a model as `config` says and leaves a run's folder.

    The folder holds `config.json`, `metrics.jsonl`, `checkpoints/`, `tensorboard/`,
    `curves.png`, `lambda.png` (for damped networks) and at the end `model.keras`. Of
    several workers only the chief writes it.

    Args:
        config: the run's settings.
        build_model: function of (input shape, number of classes) that builds a
            classifier of uint8 pixels.
        callbacks: Keras callbacks beside those of the run itself.

    Raises:
        UserError: for what the user can mend; OSError where the disk refuses.
        WorkerLost: if another worker is gone.
    """
    place = strategies.place(config)
    folder = pathlib.Path(config.output_dir)
    with strategies.losing_workers(place):
        return _Run(config, place, folder).train(build_model, callbacks)


class _Run:
    """One training run of one worker."""

    def __init__(self, config, place, folder):
        self.config, self.place, self.folder = config, place, folder
        self.flags = dataclasses.asdict(config)
        self.newest = None
        self.signals = Signals(alone=place.count == 1)

    def train(self, build_model, callbacks) -> TrainResult:
        if self.place.count == 1:
            runs.check(self.folder, self.flags, self.config.resume, MAY_CHANGE)
            self.strategy = strategies.make(self.config)
            return self._train(build_model, callbacks)
        if self.config.verbose:
            print(f"{self.place} waits for the others", file=sys.stderr, flush=True)
        self.strategy = strategies.make(self.config)
        # From here on, since TensorFlow has now put its own handler in the way.
        with self.signals:
            alike = {k: v for k, v in self.flags.items() if k not in OF_ONE_WORKER}
            problem = self._problem() if self.place.chief else ""
            with self.strategy.scope():
                strategies.check_alike(alike, problem)
            return self._train(build_model, callbacks)

    def _problem(self) -> str:
        """What is wrong with the run's folder, if anything."""
        try:
            runs.check(self.folder, self.flags, self.config.resume, MAY_CHANGE)
        except UserError as error:
            return str(error)
        return ""

    def _train(self, build_model, callbacks) -> TrainResult:
        config = self.config
        self.dataset = config.load()
        self.pipeline, self.validation = self._data()
        # Under the scope all workers do the same: what the chief does alone, saving and
        # logging, stays outside.
        with self.strategy.scope():
            finished = self._finished()
        if finished:
            return self._result_of_finished()
        with self.strategy.scope():
            model, state = self._model(build_model)
            replicas = self.strategy.num_replicas_in_sync
            synchronize_batch_norm(model, config.sync_batch_norm and replicas > 1)
            spread_seeds(model, self.strategy)
            objective = objectives.make(config)
            loop = self._loop(model, state, objective)
        if self.place.chief:
            runs.write_config(self.folder, self.flags, config.seed)
        callbacks = [*callbacks, *self._callbacks(loop, objective)]
        with self.signals if self.place.count == 1 else contextlib.nullcontext():
            loop.run(config.epochs, callbacks)
        finished = model.stop_training or loop.state.epoch >= config.epochs
        path = self._finish(loop) if finished else None
        interrupted, preempted = (a and not finished for a in loop.signals.agreed)
        history = loop.state.history
        return TrainResult(model, history, path, self.newest, interrupted, preempted)

    def _data(self):
        config, training = self.config, self.dataset.train
        validation = self.dataset.test
        if config.validation_fraction:
            training, validation = data.hold_out(training, config.validation_fraction)
        self.training = training
        augmentation = config.augmentation
        if augmentation == "auto":
            augmentation = self.dataset.augmentation
        pipeline = TrainingPipeline(
            training, config.batch_size, augmentation, config.seed
        )
        replicas = self.strategy.num_replicas_in_sync
        pipeline.check_devices(replicas)
        if config.batch_size // replicas % config.accumulate_steps:
            raise UserError(
                f"--accumulate_steps={config.accumulate_steps} does not divide the "
                f"{config.batch_size // replicas} images of a device"
            )
        return pipeline, validation

    @property
    def _steps(self):
        return self.config.epochs * self.pipeline.steps_per_epoch

    def _schedule(self):
        config = self.config
        return schedules.learning_rate(
            config.schedule, config.learning_rate, self._steps, config.warmup
        )

    def _finished(self) -> bool:
        """Whether the run is whole already, which the chief knows."""
        finished = (self.folder / "model.keras").is_file()
        if self.place.count > 1:
            finished = strategies.share(bytes([finished])) != bytes([0])
        return finished

    def _result_of_finished(self):
        if not self.place.chief:
            return TrainResult(None, [], None, None)
        path = self.folder / "model.keras"
        print(f"{self.folder} is finished already", file=sys.stderr)
        saved = checkpoints.list_checkpoints(self.folder / "checkpoints")
        return TrainResult(
            checkpoints.load_model(path),
            histories.read(self.folder / runs.METRICS),
            path,
            saved[-1] if saved else None,
        )

    def _model(self, build_model):
        """The model and state to begin with, or those of the newest checkpoint."""
        if self.place.chief:
            self.newest = checkpoints.newest(self.folder / "checkpoints")
        with contextlib.ExitStack() as stack:
            path = self.newest
            if self.place.count > 1:
                payload = checkpoints.pack(path) if path else b""
                payload = strategies.share(payload)
                temporary = stack.enter_context(tempfile.TemporaryDirectory())
                path = payload and checkpoints.unpack(payload, pathlib.Path(temporary))
            if path:
                keys = [field.name for field in dataclasses.fields(State)]
                model, state = checkpoints.restore(path, keys)
                return model, State(**state)
        return self._new_model(build_model), None

    def _new_model(self, build_model):
        config = self.config
        keras.utils.set_random_seed(config.seed)
        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy(PRECISIONS[config.precision])
        try:
            model = build_model(self.dataset.shape, len(self.dataset.class_names))
        finally:
            keras.config.set_dtype_policy(policy)
        optimizer = keras.optimizers.SGD(
            self._schedule(),
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

    def _loop(self, model, state, objective):
        config = self.config
        plan = schedules.LambdaSchedule(config.lambda_schedule, self._steps)
        if config.lambda_schedule != "learn" and not damped_layers(model):
            raise UserError(
                f"--lambda_schedule={config.lambda_schedule} needs damped blocks, and "
                f"{config.model} has none with a trainable λ"
            )
        step = make_step(
            model,
            self.strategy,
            objective,
            config.weight_decay,
            accumulate_steps=config.accumulate_steps,
            rematerialize=config.rematerialize,
            plan_rates=config.lambda_schedule != "learn",
            seed=config.seed,
        )
        checked = self.training.take(slice(_CHECKED_IMAGES))
        return Loop(
            model,
            self.strategy,
            step,
            self.pipeline,
            self.validation,
            self._schedule(),
            plan,
            self._save,
            self.signals,
            lambda: objective.metrics(model, checked.images, checked.labels),
            config.checkpoint_every,
            config.steps_per_execution,
            state,
        )

    def _save(self, loop):
        if self.place.chief:
            self.newest = checkpoints.save(
                self.folder / "checkpoints",
                loop.model,
                dataclasses.asdict(loop.state),
                loop.steps_done,
            )
            runs.write_metrics(self.folder, loop.state.history)

    def _callbacks(self, loop, objective):
        config, history = self.config, loop.state.history
        callbacks = objective.callbacks(history)
        if config.early_stopping:
            callbacks.append(ResumableEarlyStopping(history, config.early_stopping))
        if self.place.chief:
            callbacks.append(
                monitoring.TensorBoard(self.folder / "tensorboard", self.flags)
            )
        if config.verbose:
            label = f"[{self.place}] " if self.place.count > 1 else ""
            live = {1: True, 2: False}.get(config.verbose)
            callbacks.append(
                monitoring.Progress(
                    config.epochs,
                    self.pipeline.steps_per_epoch,
                    config.batch_size,
                    label=label,
                    live=live,
                )
            )
        return callbacks

    def _finish(self, loop):
        """Writes the model and its plots, and returns the model's path."""
        model, history = loop.model, loop.state.history
        synchronize_batch_norm(model, False)
        use_averages(model)
        loop.plan_rates()
        if not self.place.chief:
            return None
        name, rates = self.config.model, damping_rates(model)
        plots.save(plots.training_curves({name: history}), self.folder / "curves.png")
        if rates:
            plots.save(plots.rates_by_depth({name: rates}), self.folder / "lambda.png")
        # The last thing written: with it the run is finished.
        path = self.folder / "model.keras"
        with checkpoints.atomic(path) as temporary:
            model.save(temporary)
        return path


def stopped(result: TrainResult) -> None:
    """Raises Stopped if a signal ended the run."""
    if result.interrupted or result.preempted:
        raise Stopped(
            f"{'preempted' if result.preempted else 'interrupted'}: "
            f"{result.checkpoint or 'a checkpoint'} is saved, and the same command "
            "again goes on from it",
            result.preempted,
        )


def final_metrics(history: list[dict]) -> dict:
    """The row of the epoch whose weights a run left.

    Args:
        history: as in `TrainResult`, of at least one epoch.
    """
    return [row for row in history if not row.get("reverted")][-1]
