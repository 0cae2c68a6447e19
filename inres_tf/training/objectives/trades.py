"""TRADES: the clean loss and a term that keeps the answer the same in the ball."""

import tensorflow as tf

from inres_tf import attacks
from inres_tf.training.objectives.base import Objective, in_evaluation, in_training

# Of the start, at which the divergence would otherwise have no gradient; 0.001 of the
# pixel range, as in the authors' code.
_START_STD = 0.255


class TRADES(Objective):
    """CE(f(x), y) + beta KL(f(x) ‖ f(x')), where x' maximises the divergence.

    The settings are `trades_beta` and those of `PGD`. Gradients flow through both
    arguments of the divergence, as in the authors' code. Unlike there, x and x' pass
    the network as one batch and share its statistics.

    Args:
        config: an `inres_tf.objectives.ObjectiveConfig`.

    Reference:
        Zhang et al.: Theoretically Principled Trade-off between Robustness and
        Accuracy, ICML 2019, algorithm 1; beta is the paper's 1/λ.
    """

    def inputs(self, logits_of, images, labels, seed):
        """The pixels x', float32; see `Objective.inputs`."""
        images = tf.cast(images, tf.float32)
        noise = tf.random.stateless_normal(tf.shape(images), seed, stddev=_START_STD)
        model_fn = in_evaluation(logits_of)
        return attacks.ascend(
            model_fn,
            start=tf.clip_by_value(images + noise, 0.0, 255.0),
            center=images,
            targets=model_fn(images),
            eps=self.config.adversary_eps,
            step_size=self.config.adversary_step_size,
            steps=self.config.adversary_steps,
            loss_fn=divergence,
        )

    def losses(self, logits_of, images, inputs, labels):
        """The losses and the logits of the clean images; see `Objective.losses`."""
        # In two passes the gradients of synchronised batch statistics have no order;
        # replicas that sum them in different ones fail.
        both = tf.concat([tf.cast(images, tf.float32), inputs], 0)
        clean, adversarial = tf.split(in_training(logits_of, both), 2)
        robust = divergence(adversarial, clean)
        losses = self.cross_entropy(clean, labels) + self.config.trades_beta * robust
        return losses, clean


def divergence(logits, reference):
    """KL(softmax(reference) ‖ softmax(logits)) of each row, in nats.

    Args:
        logits: logits of the second distribution, (batch, classes).
        reference: logits of the first one.

    Returns:
        Divergences, (batch,).
    """
    log_p, log_q = tf.nn.log_softmax(reference), tf.nn.log_softmax(logits)
    return tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), -1)
