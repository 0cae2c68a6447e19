r"""Verifies the Lipschitz certificates of a classifier, independently.

Computes the logits, the norms of all layers and the certified radii again, in NumPy
float64, from the .keras file alone: without Keras, the layers, and the code that
train.evaluate --certify=lipschitz uses. With --model, Keras writes that file first.
Prints the certified accuracy. With --results it fails, with exit code 1, if that result
claims more than can be proved.

    python -m train.verify --checkpoint=runs/cpl_small --dataset=digits --verbose
    python -m train.verify --model=cpl_small --weights=cifar10 --dataset=cifar10 \
        --results=result.json
"""

import pathlib
import tempfile

from absl import flags

from inres_tf import class_names, files, markdown, verifier
from inres_tf.data import Images
from inres_tf.data.dataset import DataConfig
from inres_tf.errors import UserError
from inres_tf.evaluation import results
from inres_tf.verifier.claims import Claims
from inres_tf.verifier.config import VerifierConfig
from train import cli, models

GROUPS = {
    "model": "checkpoint model weights",
    "data": "dataset data_dir download image_size num_examples",
    "certificates": "radii results",
    "output": "verbose json",
}


def define_flags() -> None:
    """Defines the flags of this binary."""
    cli.define_model_flags(as_it_is=True)
    cli.define_flags(DataConfig)
    cli.define_flags(VerifierConfig)
    cli.DEFINE_path(
        "results",
        None,
        "Result file of train.evaluate --certify=lipschitz --output with the "
        "certificates to check.",
    )
    flags.DEFINE_bool("verbose", False, "Print the Lipschitz constant of each layer.")
    flags.DEFINE_bool("json", False, "Print JSON, with the radius of each image.")


def tables(report: dict, verbose: bool) -> str:
    """Returns what `verifier.verify` returns as markdown tables.

    Args:
        report: the certificates.
        verbose: whether to add a table of the Lipschitz constants of the layers.
    """
    radii = report["certificates"]["radii"]
    accuracies = [report["clean"]["accuracy"], *radii.values()]
    header = ["images", "clean", *(f"radius {radius}/255" for radius in radii)]
    cells = [markdown.percent([accuracy]) for accuracy in accuracies]
    text = markdown.table(header, [[str(report["num_examples"]), *cells]])
    if verbose:
        rows = [[name, f"{bound:.6g}"] for name, bound in report["lipschitz"].items()]
        text += f"\n\n{markdown.table(['layer', 'Lipschitz constant'], rows)}"
    return text


def check_images(claims: Claims, images: Images, dataset: str) -> None:
    """Checks that certificates are of these images.

    Args:
        claims: the certificates.
        images: the test images, as many as the certificates are of.
        dataset: name of the dataset.

    Raises:
        UserError: if they are of others.
    """
    if claims.fingerprint != results.fingerprint(images.images, images.labels):
        raise UserError(
            f"{claims.source} is of other images than the first {claims.num_examples} "
            f"of {dataset}; pass the --dataset and --image_size it was evaluated with"
        )


def model_file(folder: str) -> pathlib.Path:
    """Returns the `.keras` file of the model that the flags select.

    Args:
        folder: an empty folder, into which Keras writes the file of --model.

    Raises:
        UserError: if the flags select no model or two, or there is no such file.
    """
    values = flags.FLAGS
    if values.checkpoint and not (values.model or values.weights):
        return verifier.archive.find(values.checkpoint)
    cli.import_tensorflow()
    path = pathlib.Path(folder, f"{values.model}.keras")
    class_names.save(models.selected(), path)
    return path


def main() -> None:
    """Verifies the model."""
    values = flags.FLAGS
    data_config, config = cli.read_flags(DataConfig), cli.read_flags(VerifierConfig)
    claims, number = None, config.num_examples
    if values.results:
        claims = verifier.claims_of(results.read(values.results), values.results)
        number = claims.num_examples
    with tempfile.TemporaryDirectory() as folder:
        path = model_file(folder)
        chain, names = verifier.read_chain(path, True), class_names.read(path)
    if not data_config.dataset.startswith(("digits", "folder:")):
        cli.import_tensorflow()  # which reads them, without its messages
    dataset = data_config.load()
    class_names.check(
        names,
        dataset.class_names,
        f"{path}",
        f"dataset {dataset.name}",
    )
    images = dataset.test.take(slice(number or None))
    if claims:
        check_images(claims, images, data_config.dataset)
    report = verifier.verify(chain, images.images, images.labels, config.radii, True)
    print(files.to_json(report) if values.json else tables(report, values.verbose))
    if claims:
        claims.check(report)
        if not values.json:
            print(f"\nall certificates in {claims.source} are proved")


if __name__ == "__main__":
    define_flags()
    cli.run(main, tensorflow=False, groups=GROUPS)
