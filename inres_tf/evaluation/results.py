"""Result files of evaluations, and the answers about each image that they hold."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import pathlib
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from inres_tf.digests import fingerprint as fingerprint
from inres_tf.digests import of_arrays, of_file, of_text, stamps
from inres_tf.errors import UserError
from inres_tf.files import to_json, write_text

if TYPE_CHECKING:
    import keras

    from inres_tf.attacks.registry import Attack
    from inres_tf.data.images import Dataset
    from inres_tf.evaluation.config import EvaluationConfig

SCHEMA = pathlib.Path(__file__).with_name("result.schema.json")
# In every result that `train.evaluate` or `train.reproduce` writes.
_REQUIRED = ("model", "dataset", "num_examples", "protocol", "clean")


def pack(correct: npt.ArrayLike) -> str:
    """Packs booleans for JSON: base64 of eight per byte.

    Args:
        correct: whether each image is classified correctly, (number,).
    """
    return base64.b64encode(np.packbits(np.asarray(correct, bool)).tobytes()).decode()


def unpack(text: str, number: int) -> np.ndarray:
    """Unpacks booleans packed by `pack`.

    Args:
        text: the packed booleans.
        number: how many there are.

    Returns:
        Booleans, (number,).

    Raises:
        ValueError: if the text is not base64, or of another length.

    Example:
        >>> from inres_tf.evaluation import results
        >>> results.unpack(results.pack([True, False, True]), 3)
        array([ True, False,  True])
    """
    bits = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    if len(bits) != -(-number // 8):
        raise ValueError(f"expected answers for {number} images; got {8 * len(bits)}")
    return np.unpackbits(bits, count=number).astype(bool)


def pack_radii(radii: npt.ArrayLike) -> str:
    """Packs certified radii for JSON: base64 of little-endian float32, rounded down.

    Args:
        radii: radii, (number,).
    """
    exact = np.asarray(radii, np.float64)
    rounded = exact.astype("<f4")
    below = np.nextafter(rounded, np.float32(-np.inf))
    rounded = np.where(rounded > exact, below, rounded).astype("<f4")
    return base64.b64encode(rounded.tobytes()).decode()


def unpack_radii(text: str, number: int) -> np.ndarray:
    """Unpacks radii packed by `pack_radii`.

    Args:
        text: the packed radii.
        number: how many there are.

    Returns:
        Float64, (number,).

    Raises:
        ValueError: if the text is not base64, or of another length.

    Example:
        >>> from inres_tf.evaluation import results
        >>> results.unpack_radii(results.pack_radii([36.5, -1.0]), 2)
        array([36.5, -1. ])
    """
    content = base64.b64decode(text, validate=True)
    if len(content) != 4 * number:
        raise ValueError(f"expected {number} radii; got {len(content)} bytes")
    return np.frombuffer(content, "<f4").astype(np.float64)


def confusion(logits: np.ndarray, labels: npt.ArrayLike) -> dict[str, dict[str, int]]:
    """Counts images by their true and their predicted class.

    Args:
        logits: logits, (number, classes).
        labels: true classes, integers, (number,).

    Returns:
        Numbers of images by true class and then by predicted class, in the order of the
        classes and without zeros. Images with a logit that is not finite are predicted
        as `"none"`.

    Example:
        >>> import numpy as np
        >>> from inres_tf.evaluation import results
        >>> results.confusion(np.array([[1.0, 0], [0, 1], [0, 2]]), [0, 0, 1])
        {'0': {'0': 1, '1': 1}, '1': {'1': 1}}
    """
    finite = np.isfinite(logits).all(-1)
    predicted = np.where(finite, logits.argmax(-1), -1)
    counts: dict[str, dict[str, int]] = {}
    pairs = np.stack([np.asarray(labels), predicted], axis=-1)
    for (label, prediction), number in zip(
        *np.unique(pairs, axis=0, return_counts=True)
    ):
        name = "none" if prediction < 0 else str(prediction)
        counts.setdefault(str(label), {})[name] = int(number)
    return counts


def attack_row(
    name: str, eps: float, attack: Attack, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns an attack as a row of the result, without its accuracy.

    Args:
        name: its name in the result.
        eps: radius of the ball, in 1/255 of the pixel range.
        attack: the attack.
        settings: its keyword arguments.
    """
    row = {"name": name, "eps": float(eps)}
    row["norm"] = settings.get("norm", attack.norms[0])
    # Every row has these two, whatever the settings of the attack are called.
    unknown = None if ":" in name else 1
    row["steps"] = settings.get("steps", settings.get("queries", unknown))
    single = name in ("fgsm", "cleverhans_fgsm")
    row["step_size"] = settings.get("step_size", eps if single else None)
    return row | {key: value for key, value in settings.items() if key not in row}


def attack_key(row: Mapping[str, Any]) -> str:
    """Returns an attack's key in `"correct"`, such as `"pgd linf 8"`.

    Args:
        row: the attack, a row of a result.
    """
    return f"{row['name']} {row.get('norm', 'linf')} {row['eps']:g}"


def by_gradients_key(row: Mapping[str, Any]) -> str:
    """Returns the key in `"correct"` of the gradient-based members of AutoAttack.

    Args:
        row: the attack, a row of a result.
    """
    return f"{attack_key(row)} by gradients"


def sample_key(sample: Mapping[str, Any]) -> str:
    """Returns the key in `"correct"` of the attack that made a sample.

    Args:
        sample: an item of `"samples"` of a result.
    """
    return attack_key({**sample, "name": sample["attack"]})


def certificate_key(kind: str, radius: float) -> str:
    """Returns the key in `"correct"` of a certificate, such as `"certified l2 36"`.

    Args:
        kind: `"certified"`, or `"attacked"` for the attack beside it.
        radius: the L2 radius, in 1/255 of the pixel range.
    """
    return f"{kind} l2 {radius:g}"


def corruption_key(name: str, severity: int | str) -> str:
    """Returns a corrupted set's key in `"correct"`, such as `"fog 3"`.

    Args:
        name: name of the corruption.
        severity: its severity, 1 to 5.
    """
    return f"{name} {severity}"


def robust(
    correct: Mapping[str, np.ndarray], rows: Iterable[Mapping[str, Any]]
) -> np.ndarray:
    """Returns which images are robust: correct both unattacked and under every attack.

    An image lies in every ball around itself, so an image that is misclassified
    unattacked is not robust, even if an attack turns it into a correctly classified
    one.

    Args:
        correct: whether each image is classified correctly, by `"clean"` and by the
            `attack_key` of each attack: booleans, (number,).
        rows: the attacks, rows of a result.

    Returns:
        Booleans, (number,).

    Raises:
        KeyError: if `correct` lacks `"clean"` or an attack.

    Example:
        >>> import numpy as np
        >>> from inres_tf.evaluation import results
        >>> correct = {
        ...     "clean": np.array([True, True, False]),
        ...     "pgd linf 8": np.array([True, False, True]),
        ... }
        >>> results.robust(correct, [{"name": "pgd", "norm": "linf", "eps": 8.0}])
        array([ True, False, False])
    """
    answers = [correct["clean"], *(correct[attack_key(row)] for row in rows)]
    return np.logical_and.reduce(answers)


def robust_to_gradients(after: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns which images are robust to AutoAttack's gradient-based members.

    Args:
        after: whether each image is still correct after each member, by its name in
            their order: booleans, (number,). A member only attacks the images that the
            previous ones left correct.

    Returns:
        Booleans, (number,).
    """
    robust = np.ones(len(next(iter(after.values()))), bool)
    before = robust.copy()
    for name, answers in after.items():
        if name != "square":
            robust &= answers | ~before
        before = answers
    return robust


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a result file.

    Args:
        path: a file of `train.evaluate --output`, or a folder with `evaluation.json`,
            as `train.reproduce` writes it for every run.

    Raises:
        UserError: if there is no such file, or it is damaged or not a result.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        path = path / "evaluation.json"
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"there is no result file {path}; train.evaluate --output writes one"
        ) from error
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error
    missing = [k for k in _REQUIRED if not isinstance(result, dict) or k not in result]
    if missing:
        raise UserError(
            f"{path} is not a result of train.evaluate: it lacks {', '.join(missing)}"
        )
    return result


def origin(
    model: keras.Model,
    surrogate: keras.Model | None,
    dataset: Dataset,
    config: EvaluationConfig,
    data_dir: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """Returns what the result of an evaluation depends on, by name.

    A result may be reused if this has not changed.

    Args:
        model: the evaluated model.
        surrogate: the model whose adversarial examples are transferred, or None.
        dataset: the dataset, of which the test images are evaluated.
        config: settings of the evaluation.
        data_dir: folder of TensorFlow Datasets, for corrupted sets from there.

    Returns:
        JSON: the settings, and digests of the models, the images and the files that
        the settings name.
    """
    models = [model] if surrogate is None else [model, surrogate]
    files: dict[str, Any] = {"baseline": config.baseline and of_file(config.baseline)}
    source = config.corruption_source
    if source.startswith("folder:"):
        files["corruptions"] = stamps(source.removeprefix("folder:"), "*.npy")
    elif source != "generated":
        folder = data_dir or os.path.expanduser("~/tensorflow_datasets")
        files["corruptions"] = stamps(pathlib.Path(folder, source), "**/*")
    for name in (name for name in config.attacks if ":" in name):
        code = getattr(sys.modules.get(name.partition(":")[0]), "__file__", None)
        files[name] = code and of_file(code)
    return {
        "settings": json.loads(json.dumps(dataclasses.asdict(config))),
        "models": [
            {"network": of_text(m.to_json()), "weights": of_arrays(m.get_weights())}
            for m in models
        ],
        "images": fingerprint(dataset.test.images, dataset.test.labels),
        "classes": list(dataset.class_names),
        "files": files,
    }


_WORDS = {
    "settings": "its settings",
    "models": "the model",
    "images": "the test images",
    "classes": "the names of the classes",
    "files": "the files that its settings name",
}


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Returns in words what differs between two `origin`s; empty if nothing does."""
    return [words for key, words in _WORDS.items() if before.get(key) != now[key]]


class PartialResult:
    """The finished part of an interrupted evaluation, in a file next to its output.

    It is only reused with the same models, images and settings.

    Args:
        output: the file that the whole result will be written to.
        *of: the evaluation: the arguments of `origin`.
    """

    def __init__(self, output: str | os.PathLike[str], *of: Any) -> None:
        output = pathlib.Path(output)
        self.path = output.with_name(f"{output.name}.partial")
        self.key = origin(*of)

    def read(self) -> dict[str, Any]:
        """Returns the result so far; empty if there is none of this evaluation."""
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            return {} if changed(content["key"], self.key) else content["result"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def write(self, result: dict[str, Any]) -> None:
        """Writes the result so far, atomically."""
        write_text(self.path, to_json({"key": self.key, "result": result}))

    def remove(self) -> None:
        """Removes the file, if there is one."""
        self.path.unlink(missing_ok=True)
