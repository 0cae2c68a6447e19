"""The attacks of an evaluation, which resume where they were interrupted."""

from __future__ import annotations

import base64
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from inres_tf.attacks import registry
from inres_tf.attacks.versions import passes_of
from inres_tf.data.images import Images
from inres_tf.digests import of_arrays
from inres_tf.distribution.classifier import compiled_classifier, is_correct
from inres_tf.evaluation import adversarial_examples, results
from inres_tf.evaluation._parts import parts
from inres_tf.evaluation.config import EvaluationConfig
from inres_tf.evaluation.validation import check_examples

if TYPE_CHECKING:
    import keras


class Attacked(NamedTuple):
    """Outcome of an attack at one radius.

    Attributes:
        row: the attack and its accuracy, as a row of the result.
        samples: adversarial images, as in the result.
        correct: whether each image is classified correctly, by key.
        non_finite: number of images whose logits are not finite.
    """

    row: dict[str, Any]
    samples: list[dict[str, Any]]
    correct: dict[str, np.ndarray]
    non_finite: int


class Attacks:
    """Attacks the images of an evaluation.

    Args:
        model: float32 Keras classifier of pixels in [0, 255].
        data: images to attack.
        config: settings of the evaluation.
        earlier: the result so far of the evaluation to resume; empty for none.
        progress: whether to show progress bars.
    """

    def __init__(
        self,
        model: keras.Model,
        data: Images,
        config: EvaluationConfig,
        earlier: Mapping[str, Any],
        progress: bool,
    ) -> None:
        self.model, self.data, self.config = model, data, config
        self.classifier = compiled_classifier(model, config.batch_size)
        self.earlier, self.progress = earlier, progress

    def run(
        self,
        name: str,
        eps: float,
        clean: np.ndarray,
        surrogate: keras.Model | None,
        save: Callable[[dict[str, Any]], None],
    ) -> Attacked:
        """Evaluates the model under one attack at one radius.

        Args:
            name: name of the attack; `"transfer"` is PGD on the surrogate.
            eps: the radius, in 1/255 of the pixel range.
            clean: whether each image is classified correctly unattacked, (number,).
            surrogate: model that is attacked in place of the evaluated one, or None.
            save: function that is called with what is known of the attack, as JSON.
        """
        attack = registry.find("pgd" if surrogate is not None else name)
        settings = attack.settings(self.config, eps)
        if surrogate is not None:
            settings = settings | {"early_stop": False}
        row = results.attack_row(name, eps, attack, settings)
        if surrogate is not None:
            digest = of_arrays(surrogate.get_weights())
            row["surrogate"] = f"{surrogate.name} {digest[:8]}"
        earlier = self._earlier(row)
        if earlier is not None:
            return earlier
        passes = passes_of(settings["version"]) if "version" in settings else 1
        if passes > 1:
            row["passes"] = passes
        target = self.model if surrogate is None else surrogate
        run = functools.partial(attack, target, **settings)
        so_far = self._resumed(row) or _AttackProgress()
        so_far.save = lambda: save(so_far.as_json(row))
        for start, part in parts(self.data, self.config.batch_size):
            if start >= so_far.attacked:
                self._part(run, row, clean, start, part, so_far)
        answers = np.array(so_far.answers, bool)
        row["accuracy"] = float(answers.mean())
        correct = {}
        if so_far.after:
            # The passes of a random network differ: those of the end count.
            after = {
                name: np.array(earlier, bool) | answers
                for name, earlier in so_far.after.items()
            }
            after[[*after][-1]] = answers
            row["after"] = {name: float(a.mean()) for name, a in after.items()}
            correct[results.by_gradients_key(row)] = results.robust_to_gradients(after)
        correct[results.attack_key(row)] = answers
        return Attacked(row, so_far.samples, correct, so_far.non_finite)

    def _part(self, attack, row, clean, start, part, so_far):
        """Attacks some of the images, and adds what was found to what is known.

        Args:
            attack: function of images, labels, radius and the keyword arguments `seed`,
                `batch_size`, `ids` and `progress` that returns adversarial pixels.
            row: the attack, as a row of the result.
            clean: whether each image is classified correctly unattacked, (number,).
            start: index of the first image of the part.
            part: the images.
            so_far: what is known of the attack.
        """
        config, passes = self.config, row.get("passes", 1)
        has_members = "version" in row
        if has_members:  # AutoAttack, which reports after each member
            attack = functools.partial(
                attack, state=so_far.state, report=lambda *_: so_far.save()
            )
        adversarial = attack(
            part.images,
            part.labels,
            row["eps"],
            seed=config.seed,
            batch_size=config.batch_size,
            ids=np.arange(start, start + len(part)),
            progress=f"{row['name']} eps={row['eps']:g}" if self.progress else "",
        )
        if ":" in row["name"]:
            adversarial = check_examples(row, adversarial, part.images)
        logits = self.classifier.logits(adversarial)
        so_far.non_finite += int((~np.isfinite(logits).all(-1)).sum())
        judged = is_correct(logits, part.labels)
        if passes > 1:
            judged = self.classifier.correct(adversarial, part.labels, passes)
        wanted = config.samples if row["eps"] == max(config.eps) else 0
        fooled = np.flatnonzero(clean[start : start + len(part)] & ~judged)
        encoded = adversarial_examples.encode_examples(
            row,
            part.images,
            part.labels,
            adversarial,
            logits.argmax(-1),
            fooled[: max(0, wanted - len(so_far.samples))],
        )
        so_far.samples += [s | {"index": s["index"] + start} for s in encoded]
        so_far.answers += judged.tolist()
        for name, answers in so_far.state.pop("after", {}).items():
            so_far.after.setdefault(name, []).extend(answers.tolist())
        so_far.state.clear()
        if so_far.attacked < len(self.data):
            so_far.save()

    def _earlier(self, row: dict[str, Any]) -> Attacked | None:
        """Returns what the earlier result has of an attack, if it has the attack."""
        key = results.attack_key(row)
        packed, number = self.earlier.get("correct", {}), len(self.data)
        if key not in packed:
            return None
        correct = {
            name: results.unpack(packed[name], number)
            for name in (key, results.by_gradients_key(row))
            if name in packed
        }
        rows = {results.attack_key(r): r for r in self.earlier["attacks"]}
        samples = [s for s in self.earlier["samples"] if results.sample_key(s) == key]
        non_finite = self.earlier.get("non_finite", {}).get(key, 0)
        return Attacked(rows[key], samples, correct, non_finite)

    def _resumed(self, row):
        """Returns what an interrupted evaluation knew of an attack, or None."""
        underway = self.earlier.get("underway", {})
        if underway.get("key") != results.attack_key(row):
            return None
        return _AttackProgress.from_json(underway)


class _AttackProgress:
    """What is known of an attack that is under way.

    Attributes:
        answers: whether each image so far is classified correctly.
        samples: adversarial images, as in the result.
        non_finite: number of images so far whose logits are not finite.
        after: whether each image so far was correct after a member of AutoAttack.
        state: state of AutoAttack on the next images.
        save: function that saves all of this.
    """

    def __init__(self) -> None:
        self.answers: list[bool] = []
        self.samples: list[dict[str, Any]] = []
        self.non_finite = 0
        self.after: dict[str, list[bool]] = {}
        self.state: dict[str, Any] = {}
        self.save: Callable[[], None] = lambda: None

    @property
    def attacked(self) -> int:
        """Number of images that were attacked."""
        return len(self.answers)

    def as_json(self, row: Mapping[str, Any]) -> dict[str, Any]:
        state = {}
        if self.state:
            state = {
                "after": {k: v.tolist() for k, v in self.state["after"].items()},
                "shares": self.state["shares"].tolist(),
                "shape": self.state["adversarial"].shape,
                "adversarial": base64.b64encode(
                    self.state["adversarial"].astype("<f4").tobytes()
                ).decode(),
            }
        return {
            "key": results.attack_key(row),
            "answers": self.answers,
            "samples": self.samples,
            "non_finite": self.non_finite,
            "after": self.after,
            "state": state,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> _AttackProgress:
        so_far = cls()
        for name in ("answers", "samples", "non_finite", "after"):
            setattr(so_far, name, content[name])
        state = content["state"]
        if state:
            pixels = np.frombuffer(base64.b64decode(state["adversarial"]), "<f4")
            so_far.state = {
                "after": {k: np.array(v, bool) for k, v in state["after"].items()},
                "shares": np.array(state["shares"]),
                "adversarial": pixels.reshape(state["shape"]).astype(np.float32),
            }
        return so_far
