import functools

import keras
import pytest
import tensorflow as tf

from inres_tf.data.pipeline import TrainingPipeline
from inres_tf.distribution import workers
from inres_tf.distribution.config import StrategyConfig
from inres_tf.distribution.strategy import make_strategy
from inres_tf.training import step
from inres_tf.training.objectives.config import ObjectiveConfig
from inres_tf.training.objectives.registry import make_objective


class Trainer:
    """Trains a network on digits, step by step."""

    def __init__(
        self,
        digits,
        build,
        strategy="one_device",
        optimizer=None,
        decay=1e-2,
        batch_size=64,
        synchronized=True,
        objective="clean",
        **options,
    ):
        self.strategy = make_strategy(StrategyConfig(strategy=strategy))
        with self.strategy.scope():
            keras.utils.set_random_seed(3)
            self.model = build()
            optimizer = optimizer or (lambda: keras.optimizers.SGD(0.01, 0.9))
            self.model.compile(optimizer(), auto_scale_loss=False)
            self.model.optimizer.build(self.model.trainable_variables)
            several = self.strategy.num_replicas_in_sync > 1
            step.synchronize_batch_norm(self.model, several and synchronized)
            self.average_replicas = workers.replica_averaging(
                step.batch_statistics(self.model)
            )
        config = ObjectiveConfig(objective=objective)
        self.step = step.make_step(
            self.model, self.strategy, make_objective(config), decay, **options
        )
        pipeline = TrainingPipeline(digits.train, batch_size, "none", seed=0)
        self.batches = iter(
            self.strategy.distribute_datasets_from_function(
                lambda context: pipeline.batches(0, 0, context)
            )
        )
        self.done = 0

    def run(self, count=1, learn=1.0, signals=(0.0, 0.0)):
        """Runs some steps, and returns the row of each."""
        rows = self.step(
            self.batches,
            tf.constant(count),
            tf.constant(self.done),
            tf.constant(learn),
            tf.constant(signals),
        ).numpy()
        self.done += count
        return rows


@pytest.fixture(scope="session")
def make_trainer(digits):
    """Function that returns a `Trainer` of the network that a function builds."""
    return functools.partial(Trainer, digits)


@pytest.fixture
def set_policy():
    """Function that sets Keras' dtype policy until the end of the test."""
    policy = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(policy)
