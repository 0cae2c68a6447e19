"""Fast adversarial training with FGSM, and its check for catastrophic overfitting."""

import sys
from typing import Any

import keras
import numpy as np

from inres_tf import attacks, pixels
from inres_tf.models import precision
from inres_tf.training.objectives.config import ObjectiveConfig
from inres_tf.training.objectives.pgd import PGD

# Largest tolerated drop of the PGD accuracy, a fraction, as in Wong et al.
_DROP = 0.2


class FGSM(PGD):
    """Cross-entropy of FGSM examples, made with one step from a random start.

    The step has size 1.25 eps and is projected to the ball. `adversary_steps` and
    `adversary_step_size` are ignored.

    Args:
        config: the objective's settings.

    Example:
        >>> import tensorflow as tf
        >>> import zoo
        >>> from inres_tf import data, models
        >>> from inres_tf.training import objectives
        >>> images = data.load("digits").train.take(slice(4))
        >>> logits_of = models.logits_fn(zoo.InResNet8(input_shape=(8, 8, 1)))
        >>> objective = objectives.FGSM(objectives.ObjectiveConfig(adversary_eps=4.0))
        >>> inputs = objective.inputs(
        ...     logits_of, images.images, images.labels, seed=tf.constant([0, 1])
        ... )
        >>> bool(abs(inputs - images.images).numpy().max() < 4.001)
        True

    Reference:
        Wong, Rice, Kolter: Fast Is Better than Free: Revisiting Adversarial Training,
        ICLR 2020, algorithm 3. The authors' code attacks the network in training mode.
    """

    def __init__(self, config: ObjectiveConfig):
        super().__init__(config)
        self.steps, self.step_size = 1, 1.25 * self.eps

    def metrics(
        self, model: keras.Model, images: np.ndarray, labels: np.ndarray
    ) -> dict[str, float]:
        """Computes the accuracy under PGD, which reveals catastrophic overfitting.

        Args:
            model: the Keras image classifier in training.
            images: pixels in [0, 255], uint8, (number, height, width, channels).
            labels: integer class of each image, (number,).

        Returns:
            `pgd_accuracy`, in [0, 1], under 10 steps of size eps / 4 in the same ball.
        """
        model = precision.in_float32(model)
        with pixels.suppress_warnings():
            adversarial = attacks.pgd(
                model, images, labels, self.eps, steps=10, step_size=self.eps / 4
            )
        scores = keras.ops.convert_to_numpy(model(adversarial, training=False))
        return {"pgd_accuracy": float((scores.argmax(-1) == labels).mean())}

    def callbacks(
        self, history: list[dict[str, Any]]
    ) -> list[keras.callbacks.Callback]:
        """Returns the check for catastrophic overfitting.

        Args:
            history: a dict for each finished epoch, with `"epoch"`, from 1, and
                `"pgd_accuracy"`. The training loop appends to it.
        """
        return [CatastrophicOverfitting(history)]


class CatastrophicOverfitting(keras.callbacks.Callback):
    """Stops training when the PGD accuracy drops more than 0.2 below its best.

    Within an epoch, FGSM training can arrive at a network that is robust to FGSM only.
    This callback then restores the weights of the previous epoch, batch statistics
    included, and reports it on stderr. It keeps these weights in memory: for a run that
    resumed within the epoch, they are the weights that it resumed with.

    Args:
        history: a dict for each finished epoch, with `"epoch"`, from 1, and
            `"pgd_accuracy"`. The training loop appends to it; the epoch of the drop is
            marked `"reverted"`.

    Reference:
        Wong, Rice, Kolter, ICLR 2020, on catastrophic overfitting. The authors' code
        compares with the previous epoch instead of the best one, and thus misses a drop
        over two epochs.
    """

    def __init__(self, history: list[dict[str, Any]]):
        super().__init__()
        self._history, self._best = history, 0.0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks the epochs before the run was resumed."""
        for row in self._history:
            self._check(row["epoch"], row["pgd_accuracy"])
        self._keep_weights()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Keeps the epoch's weights, or restores the previous ones and stops."""
        if not self._check(epoch + 1, (logs or {})["pgd_accuracy"]):
            self._keep_weights()
            return
        for variable, value in self._kept:
            variable.assign(value)
        for row in self._history[-1:]:
            row["reverted"] = row["epoch"] == epoch + 1

    def _keep_weights(self):
        # With the optimiser's variables, which include the average of the weights.
        variables = [*self.model.variables, *self.model.optimizer.variables]
        self._kept = [(v, keras.ops.convert_to_numpy(v)) for v in variables]

    def _check(self, epoch: int, accuracy: float) -> bool:
        """Returns whether the accuracy dropped, after stopping training if so."""
        if accuracy >= self._best - _DROP:
            self._best = max(self._best, accuracy)
            return False
        print(
            f"Catastrophic overfitting: the PGD accuracy dropped from "
            f"{100 * self._best:.1f}% to {100 * accuracy:.1f}% in epoch {epoch}; "
            f"training stops with the weights of epoch {epoch - 1}.",
            file=sys.stderr,
        )
        self.model.stop_training = True
        return True
