"""Fast adversarial training with FGSM, and its check for catastrophic overfitting."""

import sys

import keras

from inres_tf import attacks
from inres_tf.models import precision
from inres_tf.training.objectives.pgd import PGD

# How far the PGD accuracy may fall, as a difference of fractions, as in Wong et al.
_DROP = 0.2


class FGSM(PGD):
    """Cross-entropy of the images that one step of 1.25 eps finds from a random start.

    The step is projected to the ball. `adversary_steps` and `adversary_step_size` do
    not matter.

    Args:
        config: an `inres_tf.objectives.ObjectiveConfig`.

    Reference:
        Wong, Rice, Kolter: Fast Is Better than Free: Revisiting Adversarial Training,
        ICLR 2020, algorithm 3. The authors' code attacks the network in training mode.
    """

    def __init__(self, config):
        super().__init__(config)
        self.steps, self.step_size = 1, 1.25 * self.eps
        self._float32 = None

    def metrics(self, model, images, labels):
        """`pgd_accuracy`, in [0, 1], under 10 steps of eps / 4 in the same ball."""
        if self._float32 is None:
            self._float32 = precision.in_float32(model)
        if self._float32 is not model:
            self._float32.set_weights(model.get_weights())
        model = self._float32
        adversarial = attacks.pgd(
            model, images, labels, self.eps, steps=10, step_size=self.eps / 4
        )
        scores = keras.ops.convert_to_numpy(model(adversarial, training=False))
        return {"pgd_accuracy": float((scores.argmax(-1) == labels).mean())}

    def callbacks(self, history):
        """The check for catastrophic overfitting."""
        return [CatastrophicOverfitting(history)]


class CatastrophicOverfitting(keras.callbacks.Callback):
    """Stops training when the PGD accuracy has fallen more than 0.2 below its best.

    FGSM training can, within an epoch, find a network that withstands FGSM and no other
    attack. Then the weights of the epoch before come back, batch statistics included,
    and one line on stderr says so. They are kept in memory: a run resumed within an
    epoch keeps, until that epoch ends, those that it was resumed with.

    Args:
        history: rows of the epochs done, with `"epoch"`, from 1, and `"pgd_accuracy"`,
            to which the loop adds. That of the fall is marked `"reverted"`.

    Reference:
        Wong, Rice, Kolter, ICLR 2020, on catastrophic overfitting. The authors' code
        compares with the epoch before, not with the best one, so that a fall over two
        epochs passes.
    """

    def __init__(self, history: list[dict]):
        super().__init__()
        self._history, self._best = history, 0.0

    def on_train_begin(self, logs=None):
        """Begins where the epochs done so far lead."""
        for row in self._history:
            self._check(row["epoch"], row["pgd_accuracy"])
        self._keep()

    def on_epoch_end(self, epoch, logs=None):
        """Stops, or keeps the epoch's weights."""
        if not self._check(epoch + 1, logs["pgd_accuracy"]):
            self._keep()
            return
        for variable, value in self._kept:
            variable.assign(value)
        for row in self._history[-1:]:
            row["reverted"] = row["epoch"] == epoch + 1

    def _keep(self):
        # The optimiser's variables too, since it may average the weights.
        variables = [*self.model.variables, *self.model.optimizer.variables]
        self._kept = [(v, keras.ops.convert_to_numpy(v)) for v in variables]

    def _check(self, epoch, accuracy) -> bool:
        """Whether the accuracy has fallen; if so, says it and stops."""
        if accuracy >= self._best - _DROP:
            self._best = max(self._best, accuracy)
            return False
        print(
            f"Catastrophic overfitting: the PGD accuracy fell from "
            f"{100 * self._best:.1f}% to {100 * accuracy:.1f}% in epoch {epoch}; "
            f"training stops with the weights of epoch {epoch - 1}.",
            file=sys.stderr,
        )
        self.model.stop_training = True
        return True
