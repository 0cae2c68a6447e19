r"""Evaluates the shipped weights again and compares them with their cards.

Compares the accuracy on the images of each card's evaluations, and exits with 1 if one
differs by more than --tolerance, or if the images are not those of the card.

    python -m zoo.verify --data_dir=DATA
    python -m zoo.verify --data_dir=DATA --weights=cifar10 --models=in_resnet20
"""

import math
import sys

from absl import flags
from tqdm import tqdm

from inres_tf import data, evaluation, markdown, spelling
from inres_tf.errors import UserError
from zoo import cards

try:
    from train import cli, models
except ImportError as error:
    sys.exit(
        f"zoo.verify: {error}: if a train.py in this folder hides the package train, "
        "run the command inres-zoo-verify"
    )

GROUPS = {"data": "data_dir download", "weights": "models weights tolerance"}


def define_flags() -> None:
    """Defines the flags of this binary."""
    cli.DEFINE_path("data_dir", None, "Folder of TensorFlow Datasets.")
    flags.DEFINE_bool("download", False, "Download missing datasets.")
    flags.DEFINE_list("weights", [], "Names of weights, such as cifar10; all if empty.")
    flags.DEFINE_list("models", [], "Names of models; all if empty.")
    flags.DEFINE_float(
        "tolerance", 0.1, "Largest difference, in percentage points.", lower_bound=0.0
    )


def main() -> int:
    """Compares the cards; returns the exit code."""
    values = flags.FLAGS
    if math.isnan(values.tolerance):
        raise UserError("--tolerance must be a number; got nan")
    for i, name in enumerate(("models", "weights")):
        known = sorted({key[i] for key in cards.shipped_cards()})
        for given in sorted(set(getattr(values, name)) - set(known)):
            raise UserError(
                f"--{name}: there are no shipped weights of {given!r}: "
                f"{spelling.did_you_mean(given, known)}known: {', '.join(known)}"
            )
    chosen = {
        key: card
        for key, card in sorted(cards.shipped_cards().items())
        if (not values.models or key[0] in values.models)
        and (not values.weights or key[1] in values.weights)
    }
    if not chosen:
        raise UserError("no shipped weights match --models and --weights")
    datasets, rows, failed = {}, [], 0
    for (name, weights), card in tqdm(chosen.items(), disable=None, leave=False):
        source = card["dataset"]["name"]
        if source not in datasets:
            config = data.DataConfig(source, values.data_dir, values.download)
            datasets[source] = config.load()
        shape, classes = tuple(card["input_shape"]), len(card["classes"])
        model = models.builder(name, weights=weights)(shape, classes)
        # Several results of the same images hold the same clean accuracy.
        claims = {
            (result["num_examples"], result["fingerprint"], result["clean"]["accuracy"])
            for result in card["evaluations"]
        }
        for claim in sorted(claims):
            row, agrees = _compare(model, datasets[source], claim, values.tolerance)
            rows.append([name, weights, *row])
            failed += not agrees
    header = ["model", "weights", "images", "card", "now", "verdict"]
    print(markdown.table(header, rows))
    return 1 if failed else 0


def _compare(model, dataset, claim, tolerance) -> tuple[list[str], bool]:
    """Compares the accuracy on some images: a row, and whether it agrees.

    Args:
        model: the model with the shipped weights.
        dataset: the dataset, of which the first test images are evaluated.
        claim: number of images, their fingerprint, and the accuracy in the card.
        tolerance: largest difference, in percentage points.
    """
    number, fingerprint, accuracy = claim
    expected = 100 * accuracy
    config = evaluation.EvaluationConfig(
        attacks=(), corruptions=(), num_examples=number, check_examples=1, samples=0
    )
    found = evaluation.evaluate_model(model, dataset, config, progress=False)
    now = 100 * found["clean"]["accuracy"]
    same_images = found["fingerprint"] == fingerprint
    agrees = same_images and abs(now - expected) <= tolerance
    verdict = "agrees" if agrees else "differs" if same_images else "other images"
    return [f"{number:,}", f"{expected:.2f}", f"{now:.2f}", verdict], agrees


if __name__ == "__main__":
    define_flags()
    cli.run(main, groups=GROUPS)
