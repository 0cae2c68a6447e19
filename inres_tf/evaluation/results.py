"""Result files of evaluations: which images a model got right, and reading them."""

import base64
import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterable, Mapping

import numpy as np

from inres_tf.errors import UserError
from inres_tf.files import write_text

# What `train.evaluate --output` and `train.reproduce` write.
_REQUIRED = ("model", "dataset", "num_examples", "protocol", "clean")


def pack(correct) -> str:
    """Booleans, one an image, as base64 of eight to a byte, for JSON."""
    return base64.b64encode(np.packbits(np.asarray(correct, bool)).tobytes()).decode()


def unpack(text: str, number: int) -> np.ndarray:
    """What `pack` packed: booleans, (number,).

    Raises:
        ValueError: if the text is damaged or holds fewer.
    """
    bits = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    if len(bits) != -(-number // 8):
        raise ValueError(f"{8 * len(bits)} answers packed, of {number} images")
    return np.unpackbits(bits, count=number).astype(bool)


def attack_key(row: dict) -> str:
    """An attack's key in `"correct"`, such as `"pgd linf 8"`."""
    return f"{row['name']} {row.get('norm', 'linf')} {row['eps']:g}"


def sample_key(sample: dict) -> str:
    """The key of a sample's attack."""
    return attack_key(sample | {"name": sample["attack"]})


def robust(correct: Mapping[str, np.ndarray], rows: Iterable[dict]) -> np.ndarray:
    """Which images are robust: correct unattacked and under each of several attacks.

    An image itself lies in every ball around it, so a misclassified image is never
    robust, even if an attack leaves it, or another point of the ball, correct.

    Args:
        correct: for `"clean"` and each attack, by `attack_key`, whether each image is
            classified correctly: booleans, (number,).
        rows: the attacks, as rows of a result.

    Returns:
        Booleans, (number,).

    Raises:
        KeyError: if the answers under one of them are missing.
    """
    answers = [correct["clean"], *(correct[attack_key(row)] for row in rows)]
    return np.logical_and.reduce(answers)


def corruption_key(name: str, severity) -> str:
    """A corrupted set's key in `"correct"`, such as `"fog 3"`."""
    return f"{name} {severity}"


def fingerprint(images, labels) -> str:
    """A short name of exactly these images and labels: 16 hexadecimal digits."""
    return _digest([images, labels])


def _digest(arrays) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(array)
        digest.update(f"{array.shape}{array.dtype.str}".encode())
        digest.update(array)
    return digest.hexdigest()[:16]


def read(path) -> dict:
    """Reads a result file.

    Args:
        path: a file of `train.evaluate --output`, or the folder of a run of
            `train.reproduce`, which holds `evaluation.json`.

    Raises:
        UserError: if there is none, it is damaged, or it is something else.
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
            f"{path} is no result of train.evaluate: it has no {', '.join(missing)}"
        )
    return result


def _files(source: str) -> list:
    """Names, sizes and times of the files of a folder of corrupted sets."""
    if not source.startswith("folder:"):
        return []
    paths = sorted(pathlib.Path(source.removeprefix("folder:")).glob("*.npy"))
    return [[p.name, p.stat().st_size, p.stat().st_mtime] for p in paths]


class PartialResult:
    """What an evaluation has finished so far, in a file beside its output.

    It counts only for the same model, images and settings.

    Args:
        output: the file that the whole result will be in.
        model: the model evaluated.
        surrogate: the model whose examples are transferred to it, or None.
        dataset: an `inres_tf.data.Dataset`.
        config: an `inres_tf.protocols.EvaluationConfig`.
    """

    def __init__(self, output, model, surrogate, dataset, config):
        output = pathlib.Path(output)
        self.path = output.with_name(f"{output.name}.partial")
        settings = dataclasses.asdict(config)
        models = [one for one in (model, surrogate) if one is not None]
        self.key = {
            "settings": json.loads(json.dumps(settings)),
            "models": [[one.to_json(), _digest(one.get_weights())] for one in models],
            "files": _files(config.corruption_source),
            "images": fingerprint(dataset.test.images, dataset.test.labels),
        }

    def read(self) -> dict:
        """The result so far; empty if there is none, or of another evaluation."""
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            return found["result"] if found["key"] == self.key else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def write(self, result: dict) -> None:
        """Writes the result so far, atomically."""
        write_text(self.path, json.dumps({"key": self.key, "result": result}))

    def remove(self) -> None:
        """Removes the file, once the whole result is written."""
        self.path.unlink(missing_ok=True)
