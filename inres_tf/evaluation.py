"""Evaluation: clean accuracy, corruptions and attacks of a classifier of pixels."""

import inspect
from collections.abc import Callable

import keras
import numpy as np

from inres_tf import attacks as attack_module
from inres_tf import checks, corrupted_sets, corruptions, results, samples
from inres_tf.attacks.autoattack import least_classes
from inres_tf.attacks.search import classifier_of
from inres_tf.classifier import are_right
from inres_tf.data import Images
from inres_tf.errors import UserError
from inres_tf.logits import check_classifier
from inres_tf.progress import bar
from inres_tf.protocols import GENERATED, EvaluationConfig

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
            run.attacked("transfer", eps, attack_module.in_float32(surrogate))
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
            for severity in corruptions.SEVERITIES:
                corrupted_sets.load(config.corruption_source, name, severity)


class _Evaluation:
    """What an evaluation works on, and its result so far."""

    def __init__(self, model, data, config, progress, data_dir, done, save):
        self.model = attack_module.in_float32(model)
        self.classifier = classifier_of(self.model, config.batch_size)
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
        severities = corruptions.SEVERITIES
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
        data = corrupted_sets.load(source, name, severity, self.data_dir)
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
            name: of the attack, or `"transfer"`.
            eps: the radius.
            surrogate: the model whose examples are transferred.
        """
        attack = attack_module.ATTACKS["pgd" if surrogate else name]
        settings = self._settings(attack, eps, transfer=surrogate is not None)
        norm = settings.get("norm", attack.norms[0])
        row = {"name": name, "eps": float(eps), "norm": norm}
        # Steps and their size are in every row, whatever the attack calls them.
        row["steps"] = settings.get("steps", settings.get("queries", 1))
        row["step_size"] = settings.get("step_size", eps if name == "fgsm" else None)
        row |= {k: v for k, v in settings.items() if k not in row}
        key = results.attack_key(row)
        right = self._earlier(key)
        if right is not None:
            row = next(r for r in self._done["attacks"] if results.attack_key(r) == key)
            by_gradients = self._earlier(f"{key} by gradients")
            if by_gradients is not None:
                self.correct[f"{key} by gradients"] = by_gradients
            kept = [s for s in self._done["samples"] if results.sample_key(s) == key]
        else:
            right, kept, after = self._attack(attack, surrogate, row, settings)
            row["accuracy"] = float(right.mean())
            if after:
                row["after"] = {name: float(one.mean()) for name, one in after.items()}
                self.correct[f"{key} by gradients"] = _by_gradients(after)
        self.correct[key] = right
        self.result["attacks"].append(row)
        self.result["samples"] += kept
        self._saved()

    def _settings(self, attack, eps, transfer) -> dict:
        """The settings of an attack that are its own or the configuration's."""
        config = self.config
        parameters = inspect.signature(attack.function).parameters.values()
        left_out = ("seed", "batch_size", "ids", "progress", "report")
        settings = {
            p.name: p.default
            for p in parameters
            if p.kind == p.KEYWORD_ONLY and p.name not in left_out
        }
        settings |= {mine: getattr(config, theirs) for mine, theirs in attack.takes}
        if ("steps", "steps") in attack.takes:
            settings["step_size"] = config.step_of(eps)
        settings["early_stop"] = config.early_stop and not transfer
        if "norm" in settings:
            settings["norm"] = config.norm
        if config.protocol == "paper":
            settings |= attack.paper
        return settings

    def _attack(self, attack, surrogate, row, settings):
        """Which images withstand an attack; samples of it; and what it reports."""
        config, data = self.config, self.data
        size = max(config.batch_size, _MEMORY // (4 * data.images[0].size))
        withstood, kept, standing = [], [], []
        wanted = config.samples if row["eps"] == max(config.eps) else 0
        label = f"{row['name']} eps={row['eps']:g}" if self.progress else ""
        for at in range(0, len(data), size):
            part = data.take(slice(at, at + size))
            if "version" in settings:
                settings["report"] = lambda name, one: standing.append((name, one))
            adversarial = attack.function(
                surrogate or self.model,
                part.images,
                part.labels,
                row["eps"],
                seed=config.seed,
                batch_size=config.batch_size,
                ids=np.arange(at, at + len(part)),
                progress=label,
                **settings,
            )
            logits = self.classifier.logits(adversarial)
            withstood.append(are_right(logits, part.labels))
            fell = self.correct["clean"][at : at + size] & ~withstood[-1]
            which = np.flatnonzero(fell)[: wanted - len(kept)] if wanted else []
            some = samples.samples(
                row,
                part.images,
                part.labels,
                adversarial,
                logits.argmax(-1),
                which,
            )
            kept += [sample | {"index": sample["index"] + at} for sample in some]
        by_member: dict[str, list] = {}
        for name, one in standing:
            by_member.setdefault(name, []).append(one)
        after = {name: np.concatenate(parts) for name, parts in by_member.items()}
        return np.concatenate(withstood), kept, after

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


def _by_gradients(after: dict[str, np.ndarray]) -> np.ndarray:
    """Which images withstood those members of AutoAttack that use gradients."""
    standing = np.ones(len(next(iter(after.values()))), bool)
    before = standing.copy()
    for name, one in after.items():
        if name != "square":
            standing &= one | ~before
        before = one
    return standing


def check_number(config: EvaluationConfig, data: Images) -> None:
    """Raises UserError if there are fewer images than are to be used."""
    if config.num_examples > len(data):
        raise UserError(
            f"--num_examples={config.num_examples} is more than the {len(data)} test "
            "images there are"
        )


def check_fits(model, data: Images) -> None:
    """Raises UserError if the model takes other images or knows fewer classes."""
    expected, found = model.input_shape[1:], data.images.shape[1:]
    if len(expected) != 3 or any(
        e is not None and e != f for e, f in zip(expected, found)
    ):
        raise UserError(
            f"model {model.name} takes images of {_by(expected)} and the dataset's are "
            f"{_by(found)}; give the --dataset or --image_size it was trained on"
        )
    if int(data.labels.max()) >= model.output_shape[-1]:
        raise UserError(
            f"model {model.name} knows {model.output_shape[-1]} classes and the "
            f"dataset has at least {int(data.labels.max()) + 1}; give the --dataset it "
            "was trained on"
        )


def check_classes(model, config: EvaluationConfig) -> None:
    """Raises UserError if an attack needs more classes than the model has."""
    has = model.output_shape[-1]
    needs = {"autoattack": least_classes(config.version, config.members)}
    needs["apgd_dlr"] = least_classes("custom", ("apgd_dlr",))
    for name in config.attacks:
        if needs.get(name, 2) > has:
            raise UserError(
                f"--attacks: {name} needs {needs[name]} classes and model {model.name} "
                f"has {has}; use apgd_ce, fab and square, or --autoattack with those"
            )


def _by(shape):
    return "x".join("any" if n is None else str(n) for n in shape)


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
