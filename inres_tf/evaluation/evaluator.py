"""Evaluation: clean accuracy, corruptions and attacks of a classifier of pixels."""

import time
from collections.abc import Callable

import keras
import numpy as np

from inres_tf import attacks as attack_module
from inres_tf import corruptions, environment
from inres_tf.attacks import registry
from inres_tf.attacks.norms import norm_order
from inres_tf.corruptions import cifar10_c
from inres_tf.corruptions.generate import SEVERITIES
from inres_tf.data.images import Dataset, Images
from inres_tf.distribution.classifier import compiled_classifier, is_correct
from inres_tf.errors import UserError
from inres_tf.evaluation import adversarial_examples, checks, results
from inres_tf.evaluation.config import GENERATED, EvaluationConfig
from inres_tf.evaluation.validation import check_classes, check_fits, check_number
from inres_tf.layers import damping_rates
from inres_tf.models.logits import check_classifier
from inres_tf.models.precision import in_float32
from inres_tf.progress import bar

# Bytes of float32 pixels attacked in one go: survivors of all of them share batches.
_MEMORY = 2**28


def evaluate(
    model,
    data: Images,
    config: EvaluationConfig,
    progress=True,
    *,
    data_dir=None,
    surrogate=None,
    done: dict | None = None,
    save: Callable[[dict], None] | None = None,
) -> dict:
    """Evaluates a classifier of pixels, on all devices of the strategy in scope.

    Args:
        model: Keras classifier of pixels in [0, 255].
        data: test images and labels.
        config: what to evaluate.
        progress: whether to show progress bars.
        data_dir: folder of TensorFlow Datasets, for corrupted sets from there.
        surrogate: Keras classifier whose PGD examples are tried on the model too, as
            attack `transfer`; None for none.
        done: an earlier result of the same model, images and settings; what it has is
            not evaluated again.
        save: called with the result so far after every corruption and attack.

    Returns:
        Dict with the keys `num_examples`, `protocol`, `seed`, `fingerprint`, `clean`,
        `corruptions`, `attacks`, `checks`, `samples` and `correct`; accuracies in
        [0, 1]. docs/evaluation.md describes it.

    Raises:
        UserError: if there are fewer images than `num_examples`, their shape is not the
            model's, it has too few classes for an attack, the paper's protocol does not
            apply to it, the baseline is of other images or settings, or an attack meets
            gradients that are no numbers.
        ValueError: if the model's logits cannot be found.
        inres_tf.attacks.AttackError: if an adversarial example breaks its bounds.
    """
    check_number(config, data)
    if config.num_examples:
        data = data.take(slice(config.num_examples))
    check_classifier(model)
    check_fits(model, data)
    check_classes(model, config)
    if surrogate is not None:
        check_classifier(surrogate)
        check_fits(surrogate, data)
    baseline = _baseline(config, data) if config.baseline else None
    _check_sets(config)
    run = _Evaluation(model, data, config, progress, data_dir, done or {}, save)
    result = run.result
    weights = [np.array(value) for value in run.model.get_weights()]
    run.clean()
    for name in corruptions.expand(config.corruptions):
        run.corrupted(name)
    if result["corruptions"]:
        mean = corruptions.mean_accuracy(result["corruptions"])
        result["mean_corruption_accuracy"] = mean
    if baseline:
        errors = corruptions.mce(result["corruptions"], baseline["corruptions"])
        result["mce"], result["relative_errors"] = errors["mce"], errors["relative"]
        mean = corruptions.mean_accuracy(baseline["corruptions"])
        result["baseline"] = f"{baseline['model']}, mCA {mean:.4f}"
    for name in config.attacks:
        for eps in config.eps:
            run.attacked(name, eps)
    if surrogate is not None:
        for eps in config.eps:
            run.attacked("transfer", eps, in_float32(surrogate))
    run.check(weights)
    result["correct"] = {key: results.pack(v) for key, v in run.correct.items()}
    return result


def _baseline(config: EvaluationConfig, data: Images) -> dict:
    """The result that corruption errors are relative to, of the same images."""
    found, path = results.read(config.baseline), config.baseline
    mine = {
        "fingerprint": results.fingerprint(data.images, data.labels),
        "protocol": config.protocol,
        "corruption_source": config.corruption_source,
        "seed": config.seed,
    }
    for key, value in mine.items():
        if found.get(key) != value:
            raise UserError(
                f"--baseline={path} was evaluated with another {key}: "
                f"{found.get(key)} there, {value} here"
            )
    names = corruptions.expand(config.corruptions)
    lacking = [name for name in names if name not in found["corruptions"]]
    if lacking or not names:
        raise UserError(
            f"--baseline={path} lacks {', '.join(lacking)}"
            if lacking
            else "--baseline needs --corruptions"
        )
    return found


def _check_sets(config: EvaluationConfig) -> None:
    """Raises UserError for a folder of corrupted sets that is not whole."""
    if config.corruption_source.startswith("folder:"):
        for name in corruptions.expand(config.corruptions):
            for severity in SEVERITIES:
                cifar10_c.load(config.corruption_source, name, severity)


class _Evaluation:
    """What an evaluation works on, and its result so far."""

    def __init__(self, model, data, config, progress, data_dir, done, save):
        self.model = in_float32(model)
        self.classifier = compiled_classifier(self.model, config.batch_size)
        self.data, self.config = data, config
        self.progress, self.data_dir = progress, data_dir
        self.correct: dict[str, np.ndarray] = {}
        self.other_labels = False
        self.result = {
            "num_examples": len(data),
            "protocol": config.protocol,
            "seed": config.seed,
            "fingerprint": results.fingerprint(data.images, data.labels),
            "clean": {},
            "corruptions": {},
            "corruption_source": config.corruption_source,
            "attacks": [],
            "checks": [],
            "samples": [],
        }
        self._done, self._save = done, save

    def _saved(self):
        if self._save:
            packed = {key: results.pack(v) for key, v in self.correct.items()}
            self._save(self.result | {"correct": packed})

    def _earlier(self, key):
        """What an earlier result says of each image, or None."""
        packed = self._done.get("correct", {}).get(key)
        return None if packed is None else results.unpack(packed, len(self.data))

    def clean(self):
        """Accuracy without an attack."""
        right = self.classifier.correct(self.data.images, self.data.labels)
        self.correct["clean"] = right
        self.result["clean"] = {"accuracy": float(right.mean())}

    def corrupted(self, name):
        """Accuracies under one corruption at all severities."""
        by = self.result["corruptions"].setdefault(name, {})
        severities = SEVERITIES
        for severity in bar(severities, name, "set", disable=not self.progress):
            key = results.corruption_key(name, severity)
            right = self._earlier(key)
            if right is None:
                data = self._corrupted_set(name, severity)
                pixels = data.images
                if self.config.protocol == "paper":
                    pixels = _normalized_by_own_statistics(self.model, pixels)
                right = self.classifier.correct(pixels, data.labels)
            self.correct[key] = right
            by[str(severity)] = float(right.mean())
        by["mean"] = float(np.mean(list(by.values())))
        self._saved()

    def _corrupted_set(self, name, severity) -> Images:
        """The corrupted images, generated or read, as many as are evaluated."""
        source, number = self.config.corruption_source, len(self.data)
        if source == GENERATED:
            pixels = corruptions.corrupt(
                self.data.images, name, severity, self.config.seed
            )
            return Images(pixels, self.data.labels)
        data = cifar10_c.load(source, name, severity, self.data_dir)
        check_fits(self.model, data)
        if len(data) < number:
            raise UserError(
                f"{source} has {len(data)} images of {name} and {number} are "
                f"evaluated; give --num_examples={len(data)}"
            )
        data = data.take(slice(number))
        self.other_labels |= not np.array_equal(data.labels, self.data.labels)
        return data

    def attacked(self, name, eps, surrogate=None):
        """Accuracy under one attack at one radius, as a row of the result.

        Args:
            name: the attack's name, or `"transfer"`.
            eps: the radius.
            surrogate: the model whose PGD examples are transferred.
        """
        attack = registry.find("pgd" if surrogate else name)
        settings = attack.settings(self.config, eps)
        if surrogate:
            settings |= {"early_stop": False}
        row = _row(name, eps, attack, settings)
        key = results.attack_key(row)
        correct = self._earlier(key)
        if correct is not None:
            row = next(r for r in self._done["attacks"] if results.attack_key(r) == key)
            by_gradients = self._earlier(f"{key} by gradients")
            if by_gradients is not None:
                self.correct[f"{key} by gradients"] = by_gradients
            kept = [s for s in self._done["samples"] if results.sample_key(s) == key]
        else:
            correct, kept, after = self._attack(attack, surrogate, row, settings)
            row["accuracy"] = float(correct.mean())
            if after:
                row["after"] = {name: float(one.mean()) for name, one in after.items()}
                self.correct[f"{key} by gradients"] = _by_gradients(after)
        self.correct[key] = correct
        self.result["attacks"].append(row)
        self.result["samples"] += kept
        self._saved()

    def _attack(self, attack, surrogate, row, settings):
        """Which images stay correct under an attack; samples; accuracies by member."""
        config, data = self.config, self.data
        size = max(config.batch_size, _MEMORY // (4 * data.images[0].size))
        correct, kept, by_member = [], [], {}
        wanted = config.samples if row["eps"] == max(config.eps) else 0
        label = f"{row['name']} eps={row['eps']:g}" if self.progress else ""
        if "version" in settings:  # AutoAttack reports after each of its members
            settings = settings | {
                "report": lambda name, one: by_member.setdefault(name, []).append(one)
            }
        for start in range(0, len(data), size):
            part = data.take(slice(start, start + size))
            adversarial = attack(
                surrogate or self.model,
                part.images,
                part.labels,
                row["eps"],
                seed=config.seed,
                batch_size=config.batch_size,
                ids=np.arange(start, start + len(part)),
                progress=label,
                **settings,
            )
            if ":" in row["name"]:
                adversarial = _check_own(row, adversarial, part.images)
            logits = self.classifier.logits(adversarial)
            correct.append(is_correct(logits, part.labels))
            fooled = self.correct["clean"][start : start + size] & ~correct[-1]
            which = np.flatnonzero(fooled)[: wanted - len(kept)] if wanted else []
            some = adversarial_examples.encode_examples(
                row,
                part.images,
                part.labels,
                adversarial,
                logits.argmax(-1),
                which,
            )
            kept += [sample | {"index": sample["index"] + start} for sample in some]
        after = {name: np.concatenate(parts) for name, parts in by_member.items()}
        return np.concatenate(correct), kept, after

    def check(self, weights):
        """Adds what the checks find, given the weights before the evaluation."""
        config, result = self.config, self.result
        some = self.data.take(slice(config.check_examples))
        jobs = (
            lambda: checks.of_model(self.model, some, config.batch_size),
            lambda: checks.of_labels(self.other_labels, config.corruption_source),
            lambda: checks.of_accuracies(result, config.norm),
            lambda: checks.of_attacks(
                self.model, some, result["attacks"], self.correct, config
            ),
            lambda: checks.of_weights(weights, self.model.get_weights()),
        )
        for job in bar(jobs, "checks", "part", disable=not self.progress):
            result["checks"] += job()


def _row(name, eps, attack, settings) -> dict:
    """An attack as a row of the result, without its accuracy."""
    row = {"name": name, "eps": float(eps)}
    row["norm"] = settings.get("norm", attack.norms[0])
    # Steps and their size are in every row, whatever the attack calls them.
    row["steps"] = settings.get("steps", settings.get("queries", 1))
    single = name in ("fgsm", "cleverhans_fgsm")
    row["step_size"] = settings.get("step_size", eps if single else None)
    if ":" in name:
        row["steps"] = None
    return row | {key: value for key, value in settings.items() if key not in row}


def _check_own(row, adversarial, images) -> np.ndarray:
    """The examples of a user's own attack, after a check that they are valid."""
    adversarial = np.asarray(adversarial, np.float32)
    if adversarial.shape != images.shape:
        raise UserError(
            f"--attacks={row['name']} returned pixels of shape {adversarial.shape} for "
            f"images of shape {images.shape}"
        )
    try:
        attack_module.check(
            adversarial, images, row["eps"], order=norm_order(row["norm"])
        )
    except attack_module.AttackError as error:
        raise UserError(f"--attacks={row['name']}: {error}") from error
    return adversarial


def _by_gradients(after: dict[str, np.ndarray]) -> np.ndarray:
    """Which images withstood those members of AutoAttack that use gradients."""
    standing = np.ones(len(next(iter(after.values()))), bool)
    before = standing.copy()
    for name, one in after.items():
        if name != "square":
            standing &= one | ~before
        before = one
    return standing


def _normalized_by_own_statistics(model, pixels) -> np.ndarray:
    """Pixels that the model's own normalisation maps to those of the official script.

    The script normalises a corrupted set with the mean and standard deviation of that
    set, per channel, in place of the training ones.
    """
    layers = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.Normalization)
    ]
    if len(layers) != 1:
        raise UserError(
            "--protocol=paper replaces the model's normalisation by the corrupted "
            f"set's, and model {model.name} has {len(layers)} Normalization layers; it "
            "needs one"
        )
    mean, std = (
        np.asarray(value, np.float64).reshape(-1)
        for value in (layers[0].mean, np.sqrt(layers[0].variance))
    )
    own_mean = pixels.mean((0, 1, 2), dtype=np.float64)
    own_std = pixels.std((0, 1, 2), dtype=np.float64)
    return ((pixels - own_mean) / own_std * std + mean).astype(np.float32)


def evaluate_model(
    model, dataset: Dataset, config: EvaluationConfig, progress=True, **rest
) -> dict:
    """Evaluates a model on a dataset's test images.

    Args:
        model: Keras classifier of pixels.
        dataset: whose test images.
        config: what to evaluate.
        progress: whether to show progress bars.
        **rest: more arguments of `evaluation.evaluate`.

    Returns:
        The dict that `train.evaluate --output` writes.
    """
    began = time.time()
    result = {"model": model.name, "dataset": dataset.name}
    try:
        check_classifier(model)
        classes = model.output_shape[-1]
        if classes != len(dataset.class_names):
            raise UserError(
                f"model {model.name} knows {classes} classes and dataset "
                f"{dataset.name} has {len(dataset.class_names)}; give the --dataset it "
                "was trained on"
            )
        result |= evaluate(model, dataset.test, config, progress, **rest)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(str(error)) from error
    return result | {
        "lambda": damping_rates(model),
        "class_names": list(dataset.class_names),
        "versions": environment.versions(),
        "git_revision": environment.git_revision(),
        "processor": environment.processor(),
        "seconds": round(time.time() - began, 1),
    }
