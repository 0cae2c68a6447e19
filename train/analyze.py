r"""Analyses a classifier: loss landscape, growth of perturbations, calibration etc.

Prints tables and writes the arrays (NAME.npz) and the plot (NAME.png) of each analysis,
analysis.json and report.html. --nolandscape etc. skip an analysis; --continuous adds
the distance to the network in continuous time. --checkpoint takes a run's --output_dir,
one of its checkpoints or a .keras file; --model and --weights take a model of the zoo.

    python -m train.analyze --checkpoint=runs/in_resnet20 --dataset=cifar10 \
        --data_dir=DATA --eps=8 --rates=0,0.5,1 --output_dir=runs/in_resnet20/analysis
    python -m train.analyze --checkpoint=runs/in_resnet20 --dataset=cifar10 \
        --data_dir=DATA --nolandscape --num_examples=500 --output_dir=analysis
"""

from absl import flags

from inres_tf import analysis
from inres_tf.analysis.config import AnalysisConfig
from inres_tf.data import DataConfig
from inres_tf.errors import UserError
from train import cli, models

GROUPS = {
    "model": "checkpoint model weights preprocessing import solver",
    "data": "dataset data_dir download image_size num_examples batch_size",
    "analyses": "landscape lyapunov lipschitz gradients calibration continuous",
    "perturbations": "eps direction steps grid rates iterations tolerance seed",
    "calibration": "corruptions severity bins",
    "continuous time": "solvers solver_steps",
    "output": "output_dir",
}


def define_flags() -> None:
    """Defines the flags of this binary."""
    cli.define_flags(DataConfig)
    cli.define_flags(AnalysisConfig)
    cli.define_model_flags()
    cli.DEFINE_path("output_dir", None, "Folder for the arrays, plots and numbers.")


def main() -> None:
    """Analyses the model."""
    data_config = cli.read_flags(DataConfig)
    config = cli.read_flags(AnalysisConfig)
    folder = flags.FLAGS.output_dir
    if not folder:
        raise UserError("--output_dir must name the folder for the results")
    cli.check_writable(f"{folder}/analysis.json")
    dataset = data_config.load()
    model = models.from_flags(dataset)
    summary = analysis.analyze(model, dataset, config, folder)
    print(analysis.table(summary))
    print(f"\n-> {folder}")


if __name__ == "__main__":
    define_flags()
    cli.run(main, groups=GROUPS)
