"""Fast adversarial training with FGSM, and its check for catastrophic overfitting."""

import sys

import keras

from inres_tf import attacks
from inres_tf.objectives.pgd import PGD


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

    def metrics(self, model, images, labels):
        """`pgd_accuracy`, in [0, 1], under 10 steps of eps / 4 in the same ball."""
        model = attacks.in_float32(model)
        adversarial = attacks.pgd(
            model, images, labels, self.eps, steps=10, step_size=self.eps / 4
        )
        scores = keras.ops.convert_to_numpy(model(adversarial, training=False))
        return {"pgd_accuracy": float((scores.argmax(-1) == labels).mean())}

    def callbacks(self, history):
        """The check for catastrophic overfitting."""
        return [CatastrophicOverfitting(history)]


class CatastrophicOverfitting(keras.callbacks.Callback):
    """Stops training when the PGD accuracy has fallen far below its best.

    FGSM training can, within an epoch, find a network that withstands FGSM and no other
    attack. Then the weights of the epoch before come back, batch statistics included,
    and one line on stderr says so. They are kept in memory: a run resumed within an
    epoch keeps, until that epoch ends, those that it was resumed with.

    Args:
        history: rows of the epochs done so far, with `"epoch"`, from 1, and
            `"pgd_accuracy"`.
        drop: how far the accuracy may fall, as a difference of fractions.

    Reference:
        Wong, Rice, Kolter, ICLR 2020, on catastrophic overfitting. The authors' code
        compares with the epoch before, not with the best one, so that a fall over two
        epochs passes.
    """

    def __init__(self, history: list[dict], drop: float = 0.2):
        super().__init__()
        self._history, self._drop = history, drop
        self._best = 0.0

    def on_train_begin(self, logs=None):
        """Begins where the epochs done so far lead."""
        for row in self._history:
            self._check(row["epoch"], row["pgd_accuracy"])
        self._weights = self.model.get_weights()

    def on_epoch_end(self, epoch, logs=None):
        """Stops, or keeps the epoch's weights."""
        if self._check(epoch + 1, logs["pgd_accuracy"]):
            self.model.set_weights(self._weights)
        else:
            self._weights = self.model.get_weights()

    def _check(self, epoch, accuracy) -> bool:
        """Whether the accuracy has fallen; if so, says it and stops."""
        if accuracy >= self._best - self._drop:
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
