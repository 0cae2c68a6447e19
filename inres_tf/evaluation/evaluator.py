"""Evaluation of image classifiers: clean, under corruptions and under attack."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from inres_tf import class_names, corruptions, environment, pixels
from inres_tf.corruptions import cifar10_c
from inres_tf.corruptions.generate import SEVERITIES
from inres_tf.data.images import Dataset, Images
from inres_tf.digests import of_arrays
from inres_tf.distribution.classifier import compiled_classifier, is_correct
from inres_tf.errors import UserError, arguments_as_flags
from inres_tf.evaluation import checks, paper_protocol, results
from inres_tf.evaluation._attacks import Attacks
from inres_tf.evaluation._certification import Certification, attack_config
from inres_tf.evaluation._corrupted import Corrupted, summary
from inres_tf.evaluation.certificates import CertificateError
from inres_tf.evaluation.config import GENERATED, EvaluationConfig
from inres_tf.evaluation.validation import (
    check_classes,
    check_corrupted_sets,
    check_fits,
    check_number,
    preprocessing_problem,
    read_baseline,
)
from inres_tf.layers import damping_rates
from inres_tf.models.costs import model_facts
from inres_tf.models.logits import check_classifier
from inres_tf.models.precision import in_float32
from inres_tf.progress import bar


def evaluate(
    model: keras.Model,
    data: Images,
    config: EvaluationConfig,
    progress: bool = True,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    surrogate: keras.Model | None = None,
    done: dict[str, Any] | None = None,
    save: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Evaluates an image classifier, on all devices of the strategy in scope.

    Args:
        model: Keras classifier of pixels in [0, 255].
        data: test images and labels.
        config: what to evaluate.
        progress: whether to show progress bars.
        data_dir: folder of TensorFlow Datasets, for corrupted sets from there.
        surrogate: Keras classifier whose PGD examples are evaluated on the model as
            attack `transfer`; None for no such attack.
        done: the finished part of an evaluation of the same model, images and settings,
            as passed to `save`, which this one resumes.
        save: function that is called with the result so far after every corruption and
            attack, after every part of an attack on many images, and after every
            member of AutoAttack.

    Returns:
        Dict with the keys `num_examples`, `protocol`, `seed`, `fingerprint`, `clean`,
        `confusion`, `corruptions`, `unchanged_corruptions`, `attacks`, `checks`,
        `samples` and `correct`, and with `config.certify` `certificates`; accuracies in
        [0, 1]. docs/evaluation.md describes it.

    Raises:
        UserError: if there are fewer images than `num_examples`, the model takes images
            of another shape or has too few classes, `--protocol=paper` does not apply
            to it, the baseline is of other images or settings, or an attack meets
            non-finite gradients.
        CertificateError: if an attack refutes a certificate; a `UserError`.
        ValueError: if the logits of the model cannot be found, or a layer has no
            Lipschitz bound that a certificate needs.
        inres_tf.attacks.AttackError: if an adversarial example lies outside its ball or
            the pixel range.

    Example:
        >>> import keras
        >>> from inres_tf import data, evaluation
        >>> layers = [keras.layers.Flatten(), keras.layers.Dense(10)]
        >>> model = keras.Sequential([keras.Input((8, 8, 1)), *layers])
        >>> config = evaluation.EvaluationConfig(
        ...     attacks=("fgsm",), eps=(8.0,), corruptions=(), check_examples=2)
        >>> images = data.load("digits").test.take(slice(10))
        >>> result = evaluation.evaluate(model, images, config, progress=False)
        >>> result["attacks"][0]["accuracy"] <= result["clean"]["accuracy"]
        True
    """
    check_number(config, data)
    if config.num_examples:
        data = data.take(slice(config.num_examples))
    check_classifier(model)
    check_fits(model, data)
    check_classes(model, config)
    check_classes(model, attack_config(config))
    if surrogate is not None:
        check_classifier(surrogate)
        check_fits(surrogate, data)
    if problem := preprocessing_problem(model, data):
        pixels.warn(problem)
    baseline = read_baseline(config, data) if config.baseline else None
    check_corrupted_sets(config)
    evaluation = _Evaluation(model, data, config, progress, data_dir, done or {})
    return evaluation.run(surrogate, baseline, save or (lambda result: None))


def evaluate_model(
    model: keras.Model,
    dataset: Dataset,
    config: EvaluationConfig,
    progress: bool = True,
    **rest: Any,
) -> dict[str, Any]:
    """Evaluates an image classifier on the test images of a dataset.

    Args:
        model: Keras classifier of pixels in [0, 255].
        dataset: the dataset.
        config: what to evaluate.
        progress: whether to show progress bars.
        **rest: other keyword arguments of `evaluate`: `data_dir`, `surrogate`, `done`
            and `save`.

    Returns:
        The result that `train.evaluate --output` writes: that of `evaluate`, with
        `model`, `dataset`, `weights_fingerprint`, `model_facts`, `lambda`,
        `class_names`, `versions`, `git_revision`, `processor` and `seconds`.

    Raises:
        UserError: if the model is not an image classifier or does not fit the dataset
            or the settings; see `evaluate`.
        inres_tf.attacks.AttackError: if an adversarial example lies outside its ball or
            the pixel range.

    Example:
        >>> from inres_tf import data, evaluation
        >>> model = zoo.InResNet8(input_shape=(8, 8, 1))
        >>> config = evaluation.EvaluationConfig(
        ...     attacks=(), corruptions=("contrast",), num_examples=20)
        >>> result = evaluation.evaluate_model(
        ...     model, data.load("digits"), config, progress=False)
        >>> result["dataset"], result["num_examples"], list(result["corruptions"])
        ('digits', 20, ['contrast'])
    """
    start = time.time()
    try:
        check_classifier(model)
        classes = model.output_shape[-1]
        if classes != len(dataset.class_names):
            raise UserError(
                f"model {model.name} has {classes} classes, but dataset "
                f"{dataset.name} has {len(dataset.class_names)}; pass the --dataset it "
                "was trained on"
            )
        for other in filter(None, (model, rest.get("surrogate"))):
            class_names.check_dataset(other, dataset)
        result = evaluate(model, dataset.test, config, progress, **rest)
    except ValueError as error:
        raise UserError(str(error)) from error
    return {
        "model": model.name,
        "dataset": dataset.name,
        **result,
        "weights_fingerprint": of_arrays(model.get_weights()),
        "model_facts": model_facts(model),
        "lambda": damping_rates(model),
        "class_names": list(dataset.class_names),
        **environment.describe(),
        "seconds": round(time.time() - start, 1),
    }


class _Evaluation:
    """An evaluation: `run` assembles the result from what the other methods return.

    Args:
        model: Keras classifier of pixels in [0, 255].
        data: images to evaluate.
        config: what to evaluate.
        progress: whether to show progress bars.
        data_dir: folder of TensorFlow Datasets, or None.
        earlier: the result so far of the evaluation to resume; empty for none.
    """

    def __init__(
        self,
        model: keras.Model,
        data: Images,
        config: EvaluationConfig,
        progress: bool,
        data_dir: str | os.PathLike[str] | None,
        earlier: Mapping[str, Any],
    ) -> None:
        self.model = in_float32(model)
        self.classifier = compiled_classifier(self.model, config.batch_size)
        self.data, self.config = data, config
        self.progress, self.data_dir = progress, data_dir
        self.earlier = earlier
        # Number of images whose logits are not finite, by key.
        self.non_finite: dict[str, int] = dict(earlier.get("non_finite", {}))
        # Keys of corrupted sets whose labels are not those of the test images.
        self.other_labels: list[str] = list(earlier.get("other_labels", []))
        self.attacks = Attacks(self.model, data, config, earlier, progress)
        self.certification = Certification(self.model, data, config, earlier, progress)

    def run(self, surrogate, baseline, save) -> dict[str, Any]:
        """Runs the evaluation.

        Args:
            surrogate: model whose examples are transferred, or None.
            baseline: result of the baseline of the mean corruption error, or None.
            save: function that is called with the result so far.
        """
        data, config = self.data, self.config
        weights = [np.array(value) for value in self.model.get_weights()]
        logits = self._logits("clean", data.images)
        clean = is_correct(logits, data.labels)
        correct = {"clean": clean}
        result: dict[str, Any] = {
            "num_examples": len(data),
            "protocol": config.protocol,
            "seed": config.seed,
            "fingerprint": results.fingerprint(data.images, data.labels),
            "clean": {"accuracy": float(clean.mean())},
            "confusion": results.confusion(logits, data.labels),
            "corruptions": {},
            "unchanged_corruptions": {},
            "corruption_source": config.corruption_source,
            "attacks": [],
            "checks": [],
            "samples": [],
        }
        for name in corruptions.expand(config.corruptions):
            corrupted = self._corruption(name)
            result["corruptions"][name] = corrupted.accuracies
            correct |= corrupted.correct
            if corrupted.unchanged:
                result["unchanged_corruptions"][name] = corrupted.unchanged
            save(self._unfinished(result, correct))
        result |= summary(result, baseline)

        sources: dict[str, keras.Model | None] = dict.fromkeys(config.attacks)
        if surrogate is not None:
            sources["transfer"] = in_float32(surrogate)

        def save_underway(underway: dict[str, Any]) -> None:
            save(self._unfinished(result, correct) | {"underway": underway})

        for (name, source), eps in itertools.product(sources.items(), config.eps):
            attacked = self.attacks.run(name, eps, clean, source, save_underway)
            self.non_finite[results.attack_key(attacked.row)] = attacked.non_finite
            result["attacks"].append(attacked.row)
            result["samples"] += attacked.samples
            correct |= attacked.correct
            save(self._unfinished(result, correct))

        uncertified = self._unfinished(result, correct)
        try:
            for entry, answers in self.certification.parts(result["attacks"], correct):
                result["certificates"] = entry
                correct |= answers
                save(self._unfinished(result, correct))
        except CertificateError:
            save(uncertified)
            raise

        result["checks"] = self._checks(result, correct, weights)
        return result | {"correct": _packed(correct)}

    def _corruption(self, name: str) -> Corrupted:
        """Evaluates the model under one corruption at all severities."""
        correct, accuracies = {}, {}
        unchanged = list(self.earlier.get("unchanged_corruptions", {}).get(name, []))
        normalized: Callable[[np.ndarray], np.ndarray] | None = None
        for severity in bar(SEVERITIES, name, "set", disable=not self.progress):
            key = results.corruption_key(name, severity)
            answers = self._earlier_answers(key)
            if answers is None:
                data = self._corrupted_set(name, severity).take(slice(len(self.data)))
                if not np.array_equal(data.labels, self.data.labels):
                    self.other_labels.append(key)
                if np.array_equal(data.images, self.data.images):
                    unchanged.append(str(severity))
                normalized = normalized or self._normalization(name)
                logits = self._logits(key, normalized(data.images))
                answers = is_correct(logits, data.labels)
            correct[key] = answers
            accuracies[str(severity)] = float(answers.mean())
        accuracies["mean"] = float(np.mean(list(accuracies.values())))
        return Corrupted(accuracies, correct, unchanged)

    def _normalization(self, name: str) -> Callable[[np.ndarray], np.ndarray]:
        """Returns what the protocol does with the pixels of a corruption's sets."""
        if self.config.protocol != "paper":
            return lambda pixels: pixels
        sets = [self._corrupted_set(name, severity).images for severity in SEVERITIES]
        mean, std = paper_protocol.statistics(sets)
        return lambda pixels: paper_protocol.normalized_by(
            self.model, pixels, mean, std
        )

    def _corrupted_set(self, name: str, severity: int) -> Images:
        """Generates corrupted images of those that are evaluated, or reads a set."""
        source, number = self.config.corruption_source, len(self.data)
        if source == GENERATED:
            pixels = corruptions.corrupt(
                self.data.images, name, severity, self.config.seed
            )
            return Images(pixels, self.data.labels)
        with arguments_as_flags():
            data = cifar10_c.load(source, name, severity, self.data_dir)
        check_fits(self.model, data)
        if len(data) < number:
            raise UserError(
                f"{source} has {len(data)} images of {name}, but {number} are "
                f"evaluated; pass --num_examples={len(data)}"
            )
        return data

    def _logits(self, key, images) -> np.ndarray:
        """Computes the logits of images, and counts those that are not finite."""
        logits = self.classifier.logits(images)
        self.non_finite[key] = int((~np.isfinite(logits).all(-1)).sum())
        return logits

    def _unfinished(self, result, correct) -> dict[str, Any]:
        """What `save` takes: the result so far, and what its checks need."""
        return result | {
            "correct": _packed(correct),
            "non_finite": self.non_finite,
            "other_labels": self.other_labels,
        }

    def _checks(self, result, correct, weights):
        """Runs all checks.

        Args:
            result: the result so far.
            correct: whether each image is classified correctly, by key.
            weights: weights of the model before the evaluation.
        """
        config = self.config
        data = self.data.take(slice(config.check_examples))
        outputs = checks.of_outputs(self.non_finite, len(self.data), weights)
        jobs = (
            lambda: [
                outputs,  # of all images, not only those of the other checks
                *checks.of_model(self.model, data, config.batch_size)[1:],
            ],
            lambda: checks.of_labels(bool(self.other_labels), config.corruption_source),
            lambda: checks.of_accuracies(result, config.norm),
            lambda: checks.of_attacks(
                self.model, data, result["attacks"], correct, config
            ),
            lambda: checks.of_solver(
                self.model, data, result["attacks"], correct, config
            ),
            lambda: checks.of_weights(weights, self.model.get_weights()),
        )
        shown = bar(jobs, "checks", "part", disable=not self.progress)
        return [finding for job in shown for finding in job()]

    def _earlier_answers(self, key: str) -> np.ndarray | None:
        """Returns which images the earlier result has as correct, if it has the key."""
        packed = self.earlier.get("correct", {}).get(key)
        return None if packed is None else results.unpack(packed, len(self.data))


def _packed(correct: Mapping[str, np.ndarray]) -> dict[str, str]:
    return {key: results.pack(answers) for key, answers in correct.items()}
