"""Fixtures of the reports: result files made of the answers to 20 images."""

import json

import numpy as np
import pytest

from inres_tf.evaluation import results
from inres_tf.reporting import comparison, measurements

NUMBER = 20
FLAGS = {"model": "x", "epochs": 3, "output_dir": "anywhere"}


@pytest.fixture(scope="session")
def answers():
    """Function of the indices of the images classified correctly."""

    def make(correct):
        array = np.zeros(NUMBER, bool)
        array[list(correct)] = True
        return array

    return make


@pytest.fixture(scope="session")
def make_result(answers):
    """Function that makes a result from answers; see `make`."""

    def make(model="a", clean=None, noise=None, attacks=None, **changes):
        """Makes a result.

        Args:
            model: name of the model.
            clean: answers on clean images.
            noise: answers under shot noise by severity.
            attacks: answers under attack by (name, norm, ε).
            **changes: other values of the result; None removes them.
        """
        clean = answers(range(18)) if clean is None else clean
        if noise is None:
            noise = {"1": answers(range(16)), "2": answers(range(10))}
        if attacks is None:
            attacks = {
                ("fgsm", "linf", 8): answers(range(12)),
                ("pgd", "linf", 8): answers(range(10)),
            }
        correct = {"clean": clean}
        correct |= {f"shot_noise {s}": array for s, array in noise.items()}
        by_severity = {s: float(array.mean()) for s, array in noise.items()}
        by_severity["mean"] = float(np.mean(list(by_severity.values())))
        rows = []
        for (name, norm, eps), array in attacks.items():
            row = {"name": name, "eps": float(eps), "norm": norm, "steps": 20}
            row |= {"step_size": 1.0, "restarts": 1, "accuracy": float(array.mean())}
            correct[results.attack_key(row)] = array
            rows.append(row)
        result = {
            "model": model,
            "dataset": "digits",
            "num_examples": NUMBER,
            "protocol": "standard",
            "seed": 0,
            "fingerprint": "0123456789abcdef",
            "clean": {"accuracy": float(clean.mean())},
            "corruption_source": "generated",
            "corruptions": {"shot_noise": by_severity},
            "attacks": rows,
            "correct": {key: results.pack(array) for key, array in correct.items()},
            "checks": [],
            "lambda": {"one": 0.25, "two": 0.0},
            "versions": {"keras": "3"},
            "processor": "abacus",
        }
        return {k: v for k, v in (result | changes).items() if v is not None}

    return make


@pytest.fixture(scope="session")
def make_old_result(make_result):
    """Function that makes a result without answers, fingerprint, norms and restarts."""

    def make(model="a", **changes):
        newer = ("correct", "fingerprint", "checks", "corruption_source")
        result = make_result(model, **dict.fromkeys(newer) | changes)
        for row in result["attacks"]:
            del row["norm"], row["restarts"]
        return result

    return make


@pytest.fixture(scope="session")
def write_run():
    """Function that writes a result, and the `config.json` of its training."""

    def write(folder, result, seed=None, **flags):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "evaluation.json").write_text(json.dumps(result))
        if seed is not None:
            config = {"flags": FLAGS | {"seed": seed} | flags, "seed": seed}
            (folder / "config.json").write_text(json.dumps(config))
        return folder

    return write


@pytest.fixture
def compare_results(tmp_path, write_run):
    """Function that writes results to the folders `0`, `1`, ... and compares them."""

    def compare(*contents, **options):
        paths = [write_run(tmp_path / str(i), c) for i, c in enumerate(contents)]
        return comparison.compare(measurements.read_measurements(paths), **options)

    return compare


@pytest.fixture(scope="session")
def certified_result(make_result, answers):
    """Function that makes a result with certificates at two radii, attacked at one."""

    def make(model="a", certified=12, attacked=14):
        by_radius = {"36": answers(range(certified)), "72": answers(range(2))}
        robust = answers(range(attacked))
        result = make_result(model)
        row = {"name": "pgd", "eps": 36.0, "norm": "l2", "steps": 20, "step_size": 4.5}
        row |= {"restarts": 1, "accuracy": float(robust.mean())}
        result["certificates"] = {
            "method": "lipschitz",
            "settings": {},
            "bound": {"logits": 0.0125},
            "radii": {r: float(array.mean()) for r, array in by_radius.items()},
            "curve": [[0.0, 0.8], [36.0, certified / NUMBER], [96.0, 0.05]],
            "attacked": {"36": row["accuracy"]},
            "attacks": [row],
        }
        keys = {f"certified l2 {r}": array for r, array in by_radius.items()}
        keys["attacked l2 36"] = robust
        result["correct"] |= {k: results.pack(array) for k, array in keys.items()}
        return result

    return make
