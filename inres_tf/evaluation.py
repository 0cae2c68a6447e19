"""Evaluation: clean accuracy, corruptions and attacks of a classifier of pixels."""

import dataclasses

import keras
import numpy as np

from inres_tf import attacks as attack_module
from inres_tf import corruptions as corruption_module
from inres_tf.classifier import Classifier
from inres_tf.config import setting
from inres_tf.data import Images
from inres_tf.errors import UserError
from inres_tf.logits import check_classifier
from inres_tf.progress import bar

PROTOCOLS = ("standard", "paper")


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """What to evaluate; each field is a flag of `train.evaluate`."""

    attacks: tuple[str, ...] = setting(
        tuple(attack_module.ATTACKS),
        f"Attacks, of {', '.join(attack_module.ATTACKS)}; none for none.",
    )
    eps: tuple[float, ...] = setting(
        (1.0, 2.0, 4.0, 8.0), "Radii of the attacks, in 1/255 of the pixel range."
    )
    steps: int = setting(20, "Steps of the iterative attacks.")
    step_size: float = setting(1.0, "Size of a step, in 1/255 of the pixel range.")
    corruptions: tuple[str, ...] = setting(
        tuple(corruption_module.CORRUPTIONS),
        f"Corruptions, of {', '.join(corruption_module.CORRUPTIONS)}; none for none.",
    )
    protocol: str = setting(
        "standard",
        "paper: as the official scripts, each corrupted set is normalised with its own "
        "mean and standard deviation, and PGD is projected around its random start, so "
        "that perturbations reach 2 eps.",
        PROTOCOLS,
    )
    num_examples: int = setting(0, "Test images to use, from the first; 0 for all.")
    batch_size: int = setting(250, "Images evaluated or attacked at a time.")
    seed: int = setting(0, "Seed of the noise and of the random starts.")

    def __post_init__(self):
        known = (
            ("attacks", self.attacks, attack_module.ATTACKS),
            ("corruptions", self.corruptions, corruption_module.CORRUPTIONS),
            ("protocol", (self.protocol,), PROTOCOLS),
        )
        for flag, names, choices in known:
            for name in names:
                if name not in choices:
                    raise UserError(
                        f"--{flag} does not know {name!r}; known: {', '.join(choices)}"
                    )
        for eps in self.eps:
            if not 0 < eps <= 255:
                raise UserError(
                    "--eps must be in (0, 255], in 1/255 of the pixel range; got "
                    f"{eps:g}"
                )
        if self.attacks and not self.eps:
            raise UserError("--eps must name at least one radius, such as --eps=2,8")
        for name, minimum in (
            ("steps", 1),
            ("num_examples", 0),
            ("batch_size", 1),
            ("seed", 0),
        ):
            if getattr(self, name) < minimum:
                raise UserError(
                    f"--{name} must be at least {minimum}; got {getattr(self, name)}"
                )
        if self.steps > 10**6:
            raise UserError(f"--steps must be at most 1000000; got {self.steps}")
        if not 0 < self.step_size <= 255:
            raise UserError(f"--step_size must be in (0, 255]; got {self.step_size:g}")


def evaluate(model, data: Images, config: EvaluationConfig, progress=True) -> dict:
    """Evaluates a classifier of pixels, on all devices of the strategy in scope.

    Args:
        model: Keras classifier of pixels in [0, 255].
        data: test images and labels.
        config: what to evaluate.
        progress: whether to show progress bars.

    Returns:
        Dict with the keys `num_examples`, `protocol`, `seed`, `clean`, `corruptions`
        and `attacks`; accuracies in [0, 1].

    Raises:
        UserError: if there are fewer images than `num_examples`, their shape is not the
            model's, or the paper's protocol does not apply to the model.
        ValueError: if the model's logits cannot be found.
        inres_tf.attacks.AttackError: if an adversarial example breaks its bounds.
    """
    check_number(config, data)
    if config.num_examples:
        data = data.take(slice(config.num_examples))
    check_classifier(model)
    model = attack_module.in_float32(model)
    classifier = Classifier(model, config.batch_size)
    check_fits(model, data)
    result = {
        "num_examples": len(data),
        "protocol": config.protocol,
        "seed": config.seed,
        "clean": {
            "accuracy": float(classifier.correct(data.images, data.labels).mean())
        },
        "corruptions": {},
        "attacks": [],
    }
    cells = [(n, s) for n in config.corruptions for s in corruption_module.SEVERITIES]
    for name, severity in bar(cells, "corruptions", "set", disable=not progress):
        pixels = corruption_module.corrupt(data.images, name, severity, config.seed)
        if config.protocol == "paper":
            pixels = _normalized_by_own_statistics(model, pixels)
        accuracy = float(classifier.correct(pixels, data.labels).mean())
        result["corruptions"].setdefault(name, {})[str(severity)] = accuracy
    for by_severity in result["corruptions"].values():
        by_severity["mean"] = float(np.mean(list(by_severity.values())))

    for name in config.attacks:
        for eps in config.eps:
            result["attacks"].append(
                _attack(classifier, model, data, name, eps, config, progress)
            )
    return result


def _attack(classifier, model, data, name, eps, config, progress) -> dict:
    """Accuracy under one attack at one radius, as a row of the results."""
    attack = attack_module.ATTACKS[name]
    settings = {}
    if attack.iterative:
        settings = {"steps": config.steps, "step_size": config.step_size}
    if attack.random and config.protocol == "paper":
        settings["center"] = "start"
    size, right = config.batch_size, 0
    # One generator over all batches, so that their size does not change the starts.
    rng = np.random.default_rng(config.seed)
    starts = range(0, len(data), size)
    label = f"{name} eps={eps:g}"
    for at in bar(starts, label, "batch", disable=not progress):
        part = data.take(slice(at, at + size))
        adversarial = attack.function(
            model,
            part.images,
            part.labels,
            eps,
            seed=rng,
            batch_size=size,
            **settings,
        )
        right += int(classifier.correct(adversarial, part.labels).sum())
    row = {"name": name, "eps": float(eps)}
    row |= {"steps": settings.get("steps", 1)}
    row |= {"step_size": float(settings.get("step_size", eps))}
    return row | {"accuracy": right / len(data)}


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
